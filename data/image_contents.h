// Whether two processes, or two starts of one training, read the same pictures.
#pragma once
#include <string>

#include "data/image_source.h"

namespace mullion {

// digest(source), and what up to 256 of the pictures hold, evenly spread; not what the others do. A
// file that cannot be read counts as one. Of ImageNet's 1.28 million a second or two, whatever the
// disk takes for 256 reads beside it.
std::string contents_digest(const ImageSource& source);

}  // namespace mullion
