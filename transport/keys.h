// Keys of the links between computers: one CURVE25519 pair for each computer, and the public keys of those it speaks
// to.
//
// A key is 32 bytes and, for people, 44 characters of base64. The secret one stays in its file; the public ones are in
// a list that may be the same on every computer. zmq_curve.h puts them to use.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "emu/base/ports.h"
#include "emu/base/result.h"

namespace pangea::transport {

struct PublicKey {
  std::array<u8, 32> v{};
  bool operator==(const PublicKey&) const = default;
};
/// 44 characters of base64.
std::string text_of(const PublicKey& key);
/// Empty: not such a text.
std::optional<PublicKey> public_key_of(std::string_view text);

/// Its secret half is wiped when it goes.
struct KeyPair {
  PublicKey open;
  std::array<u8, 32> secret{};
  KeyPair() = default;
  KeyPair(const KeyPair&) = default;
  KeyPair& operator=(const KeyPair&) = default;
  ~KeyPair();
};
KeyPair draw_key_pair(Entropy& entropy);

/// The contents of a key file (`-key`).
std::string key_file_text(const KeyPair& keys);
/// `what` names the file in the error: not a key file, or its halves do not belong together.
Result<KeyPair> parse_key_file(std::string_view text, const std::string& what);

struct NamedKey {
  std::string name;  // of a computer: what -node says, or any word
  PublicKey key;
};
/// The contents of a list of peers (`-peers`): `NAME PUBLIC-KEY` on each line, '#' begins a comment. Error: a line that
/// is none, a name or key that comes twice, or nobody at all; `what` names the file.
Result<std::vector<NamedKey>> parse_peer_list(std::string_view text, const std::string& what);

/// What a process needs for its links. Immutable once made.
struct LinkKeys {
  KeyPair own;
  std::vector<NamedKey> peers;

  bool allows(const PublicKey& key) const;
  /// The key of the peer of that name.
  std::optional<PublicKey> find(std::string_view name) const;
  /// The key of the node at `uri` (tcp://HOST:PORT): that of `name` if that is given, otherwise of the peer called
  /// HOST, otherwise of the only peer that is not this computer. Error: none of these.
  Result<PublicKey> key_of_node(const std::string& uri, const std::string& name) const;
};
}  // namespace pangea::transport
