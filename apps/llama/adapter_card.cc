// The card's text: what the base is, how it was extended, and the five lines of Python that set it.
#include "apps/llama/adapter_card.h"

#include <nlohmann/json.hpp>

#include "apps/llama/model_options.h"
#include "tensor/check.h"

namespace mullion {

// transformers 4.51 takes rope_theta from the configuration, 5 from inside the scaling.
std::string python_lines(const LlamaConfig& config, const std::string& base) {
  nlohmann::json scaling = to_json(config.rope_scaling);
  if (scaling.is_object()) {
    scaling["rope_type"] = scaling.value("rope_type", scaling.value("type", ""));
    scaling.erase("type");
    scaling["rope_theta"] = config.rope_theta;
  }
  const std::string quoted = nlohmann::json(base).dump();
  return concat(
      "from transformers import AutoConfig, AutoModelForCausalLM\n"
      "from peft import PeftModel\n"
      "config = AutoConfig.from_pretrained(",
      quoted, ", max_position_embeddings=", config.max_position_embeddings,
      ", rope_scaling=", scaling.is_null() ? "None" : scaling.dump(),
      ")\n"
      "base = AutoModelForCausalLM.from_pretrained(",
      quoted,
      ", config=config)\n"
      "model = PeftModel.from_pretrained(base, \"THIS FOLDER\")\n");
}

std::string adapter_card(const LlamaConfig& config, const std::string& base,
                         const std::string& lines) {
  std::string card;
  if (!lines.empty())
    card = concat("This adapter needs the base with other positions: ", describe_rope(config),
                  ". PEFT has no field for\nthat: opened as it is, it is another model, without a "
                  "warning. Set it so:\n\n```python\n",
                  lines, "```\n\n");
  return card + "A LoRA adapter of " + base +
         ", in PEFT's format. longctx.json has what it was trained under and PEFT has no field "
         "for.\n";
}

}  // namespace mullion
