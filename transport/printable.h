// A peer's text may end up on a terminal.
#pragma once
#include <string>

#include "emu/base/types.h"

namespace pangea::transport {
/// `text` as at most `most` printable characters.
inline std::string printable(std::string text, usize most = 500) {
  if (text.size() > most) text.resize(most);
  for (char& c : text)
    if (c < ' ' || c > '~') c = '?';
  return text;
}
}  // namespace pangea::transport
