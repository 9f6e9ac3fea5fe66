// QEMU's -chardev: a back end with a name, which -serial and -device refer to.
#pragma once
#include <string>
#include <vector>

#include "emu/base/result.h"

namespace pangea::machine {

/// The back end called `id` among the values of -chardev, as -serial spells it. Error: none is, or a kind that is not
/// there; `user` is the option that asks.
Result<std::string> find_chardev(const std::vector<std::string>& chardevs, const std::string& id,
                                 const std::string& user);

}  // namespace pangea::machine
