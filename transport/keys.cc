#include "transport/keys.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "transport/handshake.h"

namespace pangea::transport {
namespace {
constexpr usize kNameMax = 255;
constexpr int kVariant = sodium_base64_VARIANT_ORIGINAL;
constexpr std::string_view kPublicWord = "public-key", kSecretWord = "secret-key";
using Key = std::array<u8, 32>;

std::string encode(const Key& key) {
  char text[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)];
  sodium_bin2base64(text, sizeof text, key.data(), key.size(), kVariant);
  return text;
}
std::optional<Key> decode(std::string_view text) {
  Key key;
  usize bytes = 0;
  if (sodium_base642bin(key.data(), key.size(), text.data(), text.size(), nullptr, &bytes, nullptr, kVariant) != 0 ||
      bytes != key.size())
    return std::nullopt;
  return key;
}

/// The words of each line that has some, without comments.
std::vector<std::vector<std::string_view>> lines_of(std::string_view text) {
  std::vector<std::vector<std::string_view>> lines;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    line = line.substr(0, line.find('#'));
    constexpr std::string_view kSpace = " \t\r";
    std::vector<std::string_view> words;
    for (usize at; (at = line.find_first_not_of(kSpace)) != std::string_view::npos;) {
      line.remove_prefix(at);
      words.push_back(line.substr(0, line.find_first_of(kSpace)));
      line.remove_prefix(words.back().size());
    }
    if (!words.empty()) lines.push_back(std::move(words));
  }
  return lines;
}
}  // namespace

std::string text_of(const PublicKey& key) { return encode(key.v); }
std::optional<PublicKey> public_key_of(std::string_view text) {
  const auto key = decode(text);
  return key ? std::optional(PublicKey{*key}) : std::nullopt;
}

KeyPair::~KeyPair() { sodium_memzero(secret.data(), secret.size()); }

KeyPair draw_key_pair(Entropy& entropy) {
  KeyPair k;
  for (usize i = 0; i < k.secret.size(); i += sizeof(u64)) {
    const u64 w = entropy.next_u64();
    std::memcpy(&k.secret[i], &w, sizeof w);
  }
  crypto_scalarmult_base(k.open.v.data(), k.secret.data());
  return k;
}

std::string key_file_text(const KeyPair& keys) {
  return fmt::format("# Made by `pangea keygen`. Whoever can read this file can pose as this computer.\n{} {}\n{} {}\n",
                     kPublicWord, encode(keys.open.v), kSecretWord, encode(keys.secret));
}

Result<KeyPair> parse_key_file(std::string_view text, const std::string& what) {
  std::optional<Key> open, secret;
  for (const auto& words : lines_of(text)) {
    if (words.size() == 2 && words[0] == kPublicWord) open = decode(words[1]);
    if (words.size() == 2 && words[0] == kSecretWord) secret = decode(words[1]);
  }
  if (!open || !secret) return Error{what, "is not a key file", "make one with `pangea keygen -key FILE`"};
  KeyPair k;
  k.secret = *secret;
  sodium_memzero(secret->data(), secret->size());
  if (crypto_scalarmult_base(k.open.v.data(), k.secret.data()) != 0 || k.open.v != *open)
    return Error{what, "its secret key does not belong to its public key", "make another with `pangea keygen`"};
  return k;
}

Result<std::vector<NamedKey>> parse_peer_list(std::string_view text, const std::string& what) {
  std::vector<NamedKey> peers;
  for (const auto& words : lines_of(text)) {
    const auto key = words.size() == 2 ? public_key_of(words[1]) : std::nullopt;
    if (!key || words[0].size() > kNameMax)
      return Error{what, fmt::format("the line of '{:.40}' is not NAME PUBLIC-KEY", words[0]),
                   "`pangea keygen -show -key FILE` prints such a line"};
    for (const NamedKey& p : peers)
      if (p.name == words[0] || p.key == *key)
        return Error{what,
                     fmt::format("'{:.40}' and '{:.40}' have the same {}", p.name, words[0],
                                 p.name == words[0] ? "name" : "key"),
                     "remove one of them"};
    peers.push_back({std::string(words[0]), *key});
  }
  if (peers.empty()) return Error{what, "names nobody", "put a line NAME PUBLIC-KEY into it for each computer"};
  return peers;
}

bool LinkKeys::allows(const PublicKey& key) const {
  return std::any_of(peers.begin(), peers.end(), [&](const NamedKey& p) { return p.key == key; });
}

std::optional<PublicKey> LinkKeys::find(std::string_view name) const {
  const auto p = std::find_if(peers.begin(), peers.end(), [&](const NamedKey& n) { return n.name == name; });
  return p == peers.end() ? std::nullopt : std::optional(p->key);
}

Result<PublicKey> LinkKeys::key_of_node(const std::string& uri, const std::string& name) const {
  const std::string what = "-node " + uri;
  if (!name.empty()) {
    const auto key = find(name);
    if (!key) return Error{what, "the -peers file has no '" + name + "'", "add its line to that file"};
    return *key;
  }
  if (const auto key = find(host_of(uri))) return *key;
  std::optional<PublicKey> only;
  for (const NamedKey& p : peers) {
    if (p.key == own.open) continue;
    if (only) return Error{what, "it is not clear which line of the -peers file is its", "add ,peer=NAME to it"};
    only = p.key;
  }
  if (!only) return Error{what, "the -peers file names no other computer", "add its line to that file"};
  return *only;
}
}  // namespace pangea::transport
