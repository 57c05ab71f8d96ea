// How libjpeg's errors come back: by longjmp to where `escape` was set, with the message. Whoever
// sets it lets nothing with a destructor live there.
#pragma once
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

namespace mullion {

struct JpegErrorExit {
  jpeg_error_mgr base;  // first, so that libjpeg's pointer to it is one to this
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
};

inline void jpeg_error_exit(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrorExit*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->escape, 1);
}

}  // namespace mullion
