#include "emu/base/capabilities.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace pangea {

Status drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2]{};
  if (syscall(SYS_capset, &header, none) != 0)  // ambient ones go with the permitted ones
    return Error{"capabilities cannot be dropped", std::strerror(errno), "start with -sandbox off to run without"};
  return ok();
}

std::string privileged_thread() {
  std::error_code ignored;  // a thread may end while we look
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream in(task.path() / "status");
    std::string name;
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with("Name:\t")) name = line.substr(6);
      // From permitted ones a thread takes effective ones when it likes.
      if (line.starts_with("CapPrm:\t") && std::strtoull(line.c_str() + 8, nullptr, 16) != 0) return name;
    }
  }
  return {};
}
}  // namespace pangea
