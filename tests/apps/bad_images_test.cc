// Damaged, hostile and odd pictures, given to the TiC programs: what can be decoded is, what cannot
// is refused by its file's name from the header on, and a few bad files do not end a training.
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdint>

#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/data/golden_images.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class BadImages : public test::Programs {
 protected:
  BadImages() : Programs({"train_tic", "eval_tic", "tool_tic", "data_tic"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(run("data_tic cue --output tree --per-class 11").code, 0);  // 110 a part
    ASSERT_EQ(run(train_ + "--max-steps 1 --name a").code, 0);
  }
  void TearDown() override {
    struct rusage use {};
    ::getrusage(RUSAGE_CHILDREN, &use);
    EXPECT_LT(use.ru_maxrss, 256 * 1024) << "KiB, the largest of the programs that ran";
  }
  // The bytes of a golden picture with those of [at, at + bytes.size()) replaced.
  static std::string golden(const std::string& name, size_t at = 0, const std::string& bytes = "") {
    std::string text = contents(test::golden_path(name));
    return text.replace(at, bytes.size(), bytes);
  }

  const std::string train_ =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 -b 10 --img-size 32 --output runs "
      "--warmup-epochs 0 --lr 1e-3 --threads 1 --json ";
  const std::string predict_ = "tool_tic predict --checkpoint runs/a --json ";
};

// The place of a JPEG's height and width: behind the frame header's marker, length and precision.
size_t jpeg_size_at(const std::string& jpeg) {
  const size_t frame = jpeg.find("\xff\xc0");
  EXPECT_NE(frame, std::string::npos);
  return frame + 5;
}

uint32_t crc_of(const std::string& bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int k = 0; k < 8; ++k) crc = (crc & 1) != 0 ? 0xEDB88320u ^ (crc >> 1) : crc >> 1;
  }
  return ~crc;
}

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

// A PNG whose header says another size, with the right check sum.
std::string png_of_size(std::string png, uint32_t width, uint32_t height) {
  png.replace(16, 8, big_endian(width) + big_endian(height));
  return png.replace(29, 4, big_endian(crc_of(png.substr(12, 17))));
}

TEST_F(BadImages, OddOnesAreDecoded) {
  for (const char* name : {"cmyk.jpg", "grey.jpg", "progressive.jpg", "size1x1.jpg", "size17x1.jpg",
                           "size1x19.jpg", "palette1i1.png", "rgb16i1.png", "greyalpha8i0.png"})
    EXPECT_EQ(result(predict_ + test::golden_path(name))["images"].size(), 1u) << name;
  // The kind is what the bytes say, not the name.
  write_whole_file(at("png.jpg"), golden("rgb8i0.png"));
  EXPECT_EQ(run(predict_ + "png.jpg").code, 0);
}

TEST_F(BadImages, OthersAreRefusedByName) {
  const auto give = [&](const std::string& name, const std::string& bytes,
                        std::vector<std::string> words = {}) {
    write_whole_file(at(name), bytes);
    words.push_back(name);
    refused(predict_ + name, 3, words);
  };
  const std::string jpeg = golden("rgb420.jpg"), png = golden("rgb8i0.png");
  give("empty.jpg", "", {"empty"});
  give("page.jpg", "<html>not here</html>", {"neither JPEG nor PNG"});
  for (const size_t length : {size_t{2}, size_t{3}, size_t{20}, jpeg.size() / 2, jpeg.size() - 1})
    give("cut.jpg", jpeg.substr(0, length));
  for (const size_t length : {size_t{8}, size_t{20}, size_t{33}, png.size() / 2, png.size() - 1})
    give("cut.png", png.substr(0, length));
  std::string changed = png;
  changed[png.size() / 2] = static_cast<char>(changed[png.size() / 2] ^ 1);
  give("sum.png", changed);
  // Bombs: sizes that a header claims.
  const size_t at_size = jpeg_size_at(jpeg);
  give("bomb.jpg", golden("rgb420.jpg", at_size, "\x65\x90\x65\x90"), {"26000"});
  give("most.jpg", golden("rgb420.jpg", at_size, "\xff\xff\xff\xff"), {"65535"});
  give("none.jpg", golden("rgb420.jpg", at_size, std::string(4, '\0')));
  give("bomb.png", png_of_size(png, 20000, 17000), {"20000", "17000"});
  give("most.png", png_of_size(png, 0x7fffffff, 0x7fffffff), {"2147483647"});
  give("thin.png", png_of_size(png, 1 << 30, 1));
  give("tall.png", png_of_size(png, 8000, 8000));  // allowed, but the data end early
  ASSERT_EQ(::mkfifo(at("pipe.png").c_str(), 0600), 0);
  refused(predict_ + "pipe.png", 3, {"pipe.png"});
  fs::create_directory(at("hollow"));
  refused(predict_ + "hollow", 3, {"hollow", "no .jpg"});
  refused(predict_ + "none.png", 3, {"none.png"});
}

TEST_F(BadImages, OneBadFileInAHundredIsLeftOutAndTold) {
  fs::resize_file(at("tree/train/4-corner/00003.png"), 100);
  fs::resize_file(at("tree/val/4-corner/00003.png"), 100);
  const Answer trained = run(train_ + "--epochs 1 --name b");
  EXPECT_EQ(trained.code, 0) << trained.log;
  EXPECT_NE(trained.log.find("tree/train/4-corner/00003.png"), std::string::npos) << trained.log;
  const Answer scored = run("eval_tic --data-dir tree --checkpoint runs/b --json");
  EXPECT_EQ(scored.code, 0) << scored.log;
  EXPECT_EQ(scored.json()["count"], 109);
  EXPECT_NE(scored.log.find("tree/val/4-corner/00003.png"), std::string::npos) << scored.log;
  EXPECT_NE(scored.log.find("1 unreadable"), std::string::npos) << scored.log;
  fs::resize_file(at("tree/train/2-ring/00001.png"), 100);
  refused(train_ + "--epochs 1 --name c", 3, {"tree/train/"});
}

}  // namespace
}  // namespace mullion
