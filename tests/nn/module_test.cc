// The list of members that parameters, names, aliases and visits of modules come from.
#include "nn/module.h"

#include <gtest/gtest.h>

#include "nn/linear.h"

namespace mullion {
namespace {

struct Block : Module {
  void fields(Fields& fields) override {
    fields("norm", norm);
    fields("proj", proj);
  }
  RmsNorm norm{3, 1e-5};
  Linear proj{3, 3};
};

struct Net : Module {
  Net() {
    blocks.push_back(std::make_unique<Block>());
    blocks.push_back(std::make_unique<Block>());
  }
  void fields(Fields& fields) override {
    fields("embed", embed);
    fields("blocks", blocks);
    fields("head.weight", head);
  }
  Embedding embed{5, 3};
  std::vector<std::unique_ptr<Block>> blocks;
  Tensor head = embed.weight.tensor();
};

std::vector<std::string> names(Module& module) {
  std::vector<std::string> result;
  for (const NamedParameter& p : named_parameters(module)) result.push_back(p.name);
  return result;
}

using Names = std::vector<std::string>;

TEST(Module, ParametersHaveTheNamesOfTheirMembersAndAliasesNone) {
  Net net;
  const Names tied = {"embed.weight", "blocks.0.norm.weight", "blocks.0.proj.weight",
                      "blocks.1.norm.weight", "blocks.1.proj.weight"};
  EXPECT_EQ(names(net), tied);
  net.head = raw::clone(net.head);
  Names untied = tied;
  untied.emplace_back("head.weight");
  EXPECT_EQ(names(net), untied);
}

TEST(Module, AnAliasFollowsWhatAVisitorMakesOfItsTensor) {
  Net net;
  for_each_parameter(net, [](const std::string&, Tensor& p) { p = raw::clone(p); });
  EXPECT_TRUE(net.head.is_same(net.embed.weight.tensor()));
}

TEST(Module, VisitsModulesOfAKindByTheirPaths) {
  Net net;
  Names linears, blocks;
  for_each_module<Linear>(net, [&](const std::string& path, Linear& layer) {
    linears.push_back(path);
    layer.add_lora(1, 1);  // a visitor may add members
  });
  for_each_module<Block>(net, [&](const std::string& path, Block&) { blocks.push_back(path); });
  EXPECT_EQ(linears, (Names{"blocks.0.proj", "blocks.1.proj"}));
  EXPECT_EQ(blocks, (Names{"blocks.0", "blocks.1"}));
  EXPECT_EQ(names(net).size(), 9u);
}

}  // namespace
}  // namespace mullion
