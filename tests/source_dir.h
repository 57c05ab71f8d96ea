// Where the checkout is, for tests that read its files. In a source of its own, so that the objects
// of all tests are the same in any folder, and a compiler's cache finds them.
#pragma once

namespace mullion::test {

extern const char* const source_dir;

}  // namespace mullion::test
