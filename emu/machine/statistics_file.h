// Files that statistics need at the end of a run, opened at its start: in between the process enters its sandbox.
#pragma once
#include <string>

#include "emu/base/result.h"
#include "emu/base/types.h"
#include "emu/machine/file_replacer.h"

namespace pangea::machine {

/// Resident memory of this process.
class ResidentMemory {
 public:
  ResidentMemory();
  ~ResidentMemory();
  ResidentMemory(const ResidentMemory&) = delete;
  ResidentMemory& operator=(const ResidentMemory&) = delete;
  struct Mib {
    double process = 0, frames = 0;
  };
  /// `frames`: that of the mapping which begins there as well. Zeros if the kernel does not tell.
  Mib read(const u8* frames) const;

 private:
  int fd_;  // /proc/self/smaps, see proc(5)
};

/// What -stats names: a file, which is replaced as a whole, or a pipe or device, which is written to.
class StatisticsFile {
 public:
  StatisticsFile() = default;
  ~StatisticsFile();
  StatisticsFile(const StatisticsFile&) = delete;
  StatisticsFile& operator=(const StatisticsFile&) = delete;
  /// Error: cannot be written.
  Status open(const std::string& path);
  /// Error: cannot be written; then a file has what it had.
  Status write(const std::string& text);

 private:
  Error failed() const;
  std::string path_;
  FileReplacer replacer_;
  int fd_ = -1;  // of what is no regular file
};
}  // namespace pangea::machine
