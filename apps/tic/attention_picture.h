// tool_tic attention: where a pixel of an image looks, laid over the image.
#pragma once
#include "apps/program/main.h"

namespace mullion {

Verb attention_verb();

}  // namespace mullion
