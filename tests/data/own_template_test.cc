// What is taken of a tokenizer's own chat template.
#include <gtest/gtest.h>

#include "data/chat_template.h"
#include "tensor/check.h"
#include "tests/data/chat_samples.h"

namespace mullion {
namespace {

// Parts of a template that change the text are written too, or said not to be.
TEST(OwnTemplate, ItsPartsAreWrittenOrSaidNotToBe) {
  const std::string loop =
      "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + "
      "'<|im_end|>' + '\\n'}}{% endfor %}";
  const auto described = [&](const std::string& jinja) {
    return ChatTemplate("auto", *test::chat_tokenizer(jinja)).describe();
  };
  const auto prompt = [&](const std::string& jinja) {
    return ChatTemplate("auto", *test::chat_tokenizer(jinja))
        .prompt({{.role = Role::user, .content = " q ", .input = "", .field = ""}});
  };
  const std::string asked = "<|im_start|>user\n q <|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(prompt(loop), asked);
  EXPECT_EQ(described(loop).find("not written"), std::string::npos);
  for (const char* bos : {"{{bos_token}}", "{{- bos_token -}}"})
    EXPECT_EQ(prompt(bos + loop), "<s>" + asked);
  std::string no_lines = loop;
  no_lines.replace(no_lines.find(" + '\\n'}}"), 7, "");
  EXPECT_EQ(prompt(no_lines), "<|im_start|>user\n q <|im_end|><|im_start|>assistant\n");
  for (const char* literal : {R"({{ "<|im_start|>system\nYou are Bob's.<|im_end|>\n" }})",
                              R"({{ '<|im_start|>system\nYou are Bob\'s.<|im_end|>\n' }})",
                              "<|im_start|>system\nYou are Bob's.<|im_end|>\n"})
    EXPECT_EQ(prompt(literal + loop), "<|im_start|>system\nYou are Bob's.<|im_end|>\n" + asked)
        << literal;
  const std::string set = described("{% set system_message = 'You help.' %}" + loop);
  EXPECT_NE(set.find("not written: the system text that its template sets where none is given: "
                     "You help."),
            std::string::npos)
      << set;
  // BOS by its text; in a comment or a condition it is not written.
  EXPECT_EQ(prompt("{{ '<s>' }}" + loop), "<s>" + asked);
  for (const char* none : {"{#- no bos_token here -#}",
                           "{% if not bos_token is defined %}{% set bos_token = '' %}{% endif %}"})
    EXPECT_EQ(prompt(none + loop), asked) << none;
  // Jinja is no system text, whatever stands before it.
  const std::string joins =
      R"({{ '<s><|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }})";
  EXPECT_EQ(prompt(joins + loop), "<s>" + asked);
  for (const char* made : {R"({{ '\n<|im_start|>system\n' + sys + '<|im_end|>\n' }})",
                           R"({{ '<|im_start|>system\n\x41<|im_end|>\n' }})"}) {
    EXPECT_EQ(prompt(made + loop), asked) << made;
    EXPECT_NE(described(made + loop).find("not written: a system text that its template makes"),
              std::string::npos)
        << made;
  }
  // Line breaks by the next expression, or as they are.
  for (const char* end :
       {"'<|im_end|>' }}{{ '\\n' }}", "'<|im_end|>' }}\n", "eos_token }}{{ '\\n' }}"})
    EXPECT_NE(prompt("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + " +
                     std::string(end) + "{% endfor %}")
                  .find("\n<|im_start|>assistant"),
              std::string::npos)
        << end;
  EXPECT_EQ(prompt("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + "
                   "'<|im_end|>' }}\n{%- endfor %}"),
            "<|im_start|>user\n q <|im_end|><|im_start|>assistant\n");
  // Turns that end with EOS.
  EXPECT_EQ(prompt("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + "
                   "eos_token + '\\n' }}{% endfor %}"),
            "<|im_start|>user\n q </s>\n<|im_start|>assistant\n");
  EXPECT_NE(described("{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
                      "{{ '<|im_start|>user\\n' + messages[1].content + '<|im_end|>\\n' }}")
                .find("not written: a system turn"),
            std::string::npos);
  std::string trims = loop;
  trims.insert(trims.find("['content']") + 11, " | trim");
  EXPECT_NE(described(trims).find("not written: what its template trims"), std::string::npos);
  for (const char* unknown :
       {"{{ 'USER: ' }}{{ 'ASSISTANT: ' }}", "{{ '### Instruction:' }}{{ '### Response:' }}",
        "{{ '[INST] <<SYS>>' }}", "{{ '<|system|>\\n<|user|>\\n<|assistant|>\\n' + eos_token }}",
        "{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content }}"})
    EXPECT_THROW(described(unknown), Error) << unknown;
}

}  // namespace
}  // namespace mullion
