// A file LOCK held by flock() as long as the object lives.
#include "apps/tic/output_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "apps/program/log.h"
#include "data/decode.h"
#include "tensor/check.h"
#include "tensor/io/file_ops.h"

namespace mullion {

OutputLock::OutputLock(const std::filesystem::path& folder) : file_(folder / ".lock") {
  make_folders(folder);
  fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  CHECK_AS(Fault::disk, fd_ >= 0, printable(file_.string()), ": ", std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  if (reason != EWOULDBLOCK) {  // a file system without locks
    log_warning(printable(file_.string()), ": cannot be locked: ", std::strerror(reason));
    return;
  }
  ::close(fd_);
  fail(Fault::disk, printable(folder.string()), ": another process is writing into this folder");
}

// The file stays: to remove it would let a third process lock another file of the same name while a
// second one waits with this one open.
OutputLock::~OutputLock() { ::close(fd_); }

}  // namespace mullion
