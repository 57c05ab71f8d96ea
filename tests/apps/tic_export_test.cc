// tool_tic export: the folder for PyTorch is a model folder here too, and the ONNX file holds the
// weights. (tools/oracle_tic_exports.py runs both in PyTorch and onnxruntime.)
#include <cstring>

#include "apps/tic/model_folder.h"
#include "models/tic/model.h"
#include "nn/state.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

class TicExport : public test::Programs {
 protected:
  TicExport() : Programs({"tool_tic"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    TicDescription d;
    d.config = tic_preset("tic-n");
    d.config.dim = 8;
    d.config.num_classes = 3;
    d.classes = {"one", "two", "three"};
    d.img_size = 32;
    Tic model(d.config);
    model.initialize(5);
    std::filesystem::create_directory(at("m"));
    write_tic_config(at("m"), d);
    save_tensors(at("m") / "model.safetensors", named_parameters(model));
    weights_ = named_parameters(model);
  }
  std::vector<NamedParameter> weights_;
};

TEST_F(TicExport, TheFolderForTorchIsAModelFolder) {
  EXPECT_EQ(result("tool_tic export --checkpoint m -o out --json")["format"], "torch");
  const LoadedTic again = load_tic(at("out"), false);
  EXPECT_EQ(again.description.classes, (std::vector<std::string>{"one", "two", "three"}));
  const auto found = named_parameters(*again.model);
  ASSERT_EQ(found.size(), weights_.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_EQ(found[i].value.to_vector<float>(), weights_[i].value.to_vector<float>());
  const std::string source = test::contents(at("out/tic_model.py"));
  EXPECT_EQ(source,
            test::contents(std::string(test::source_dir) + "/apps/tic/export/tic_model.py"));
  refused("tool_tic export --checkpoint m -o out", 2, {"out", "empty"});
}

TEST_F(TicExport, TheOnnxFileHoldsWeightsAndNames) {
  const auto said = result("tool_tic export --checkpoint m --format onnx -o a.onnx --json");
  EXPECT_EQ(said["format"], "onnx");
  const std::string bytes = test::contents(at("a.onnx"));
  for (const char* text : {"images", "height", "logits", "LayerNormalization", "three", "tic-n"})
    EXPECT_NE(bytes.find(text), std::string::npos) << text;
  // What a convolution or a norm takes stands there as it is; products take their transpose.
  for (const NamedParameter& p : weights_) {
    const bool turned = p.value.rank() == 2;
    EXPECT_NE(bytes.find(p.name + (turned ? ".T" : "")), std::string::npos) << p.name;
    const auto values = p.value.to_vector<float>();
    const std::string raw(reinterpret_cast<const char*>(values.data()), 4 * values.size());
    if (!turned) {
      EXPECT_NE(bytes.find(raw), std::string::npos) << p.name;
    }
  }
  run("tool_tic export --checkpoint m --format onnx -o b.onnx");
  EXPECT_EQ(test::contents(at("b.onnx")), bytes);
  refused("tool_tic export --checkpoint m --format onnx -o m", 2, {"m: is there already"});
  refused("tool_tic export --checkpoint m --format onnx -o b.onnx", 2, {"is there already"});
  EXPECT_EQ(test::contents(at("b.onnx")), bytes);
  refused("tool_tic export --checkpoint m --format onnx --use-ema -o c.onnx", 3, {"model_ema"});
  EXPECT_FALSE(std::filesystem::exists(at("c.onnx")));
  refused("tool_tic export --checkpoint absent -o d", 3, {"absent"});
  EXPECT_FALSE(std::filesystem::exists(at("d")));
}

}  // namespace
}  // namespace mullion
