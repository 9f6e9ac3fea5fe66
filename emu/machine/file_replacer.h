// Replaces a file as a whole, also from inside the sandbox, which may neither open nor rename anything.
//
// A child process does it, started before the sandbox: it gets each text over a pipe, writes it beside the file and
// renames it. Readers see the old text or the new one. When this process dies in the middle, the child removes what it
// has begun and ends.
#pragma once
#include <sys/types.h>

#include <string>

#include "emu/base/result.h"

namespace pangea::machine {

class FileReplacer {
 public:
  FileReplacer() = default;
  ~FileReplacer();
  FileReplacer(const FileReplacer&) = delete;
  FileReplacer& operator=(const FileReplacer&) = delete;
  /// `path` exists as a regular file, or not at all. Error: it cannot be written, or nothing can be made beside it.
  Status start(const std::string& path);
  /// Any thread, one at a time. SIGPIPE is to be ignored. Error: not replaced, and what was there is as before.
  Status replace(const std::string& text);
  pid_t child() const { return child_; }

 private:
  Error failed(int error) const;
  std::string path_;
  int texts_ = -1, answers_ = -1;  // pipes
  pid_t child_ = -1;
};
}  // namespace pangea::machine
