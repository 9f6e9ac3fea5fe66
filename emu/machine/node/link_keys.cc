#include "emu/machine/node/link_keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pangea::machine {
using transport::KeyPair;
using transport::LinkKeys;

namespace {
constexpr usize kFileMax = usize{1} << 20;  // bytes; a list of a thousand peers has a tenth of that

class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Result<std::string> read_file(const std::string& what, const std::string& path, bool secret) {
  const File f(path, O_RDONLY);
  struct stat s {};
  if (f.fd() < 0 || fstat(f.fd(), &s) != 0) return Error{what, std::strerror(errno), "give a file that you can read"};
  if (S_ISDIR(s.st_mode)) return Error{what, "is a directory", "give a file"};
  if (secret && (s.st_mode & 077))
    return Error{what, "others can read it", "chmod 600 " + path + ", and make a new key if somebody may have read it"};
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = ::read(f.fd(), buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<usize>(n));
    if (text.size() > kFileMax) return Error{what, "is far too long", "give another file"};
  }
  return text;
}

namespace {
Result<KeyPair> read_key(const std::string& path) {
  const std::string what = "-key " + path;
  auto text = read_file(what, path, true);
  if (!text) return text.error();
  auto keys = transport::parse_key_file(*text, what);
  explicit_bzero(text->data(), text->size());
  return keys;
}

Status write_key(const std::string& path, const KeyPair& keys) {
  const std::string what = "-key " + path;
  const File f(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
  if (f.fd() < 0 && errno == EEXIST)
    return Error{what, "exists already", "choose another name; pangea keygen -show -key prints its public key"};
  std::string text = transport::key_file_text(keys);
  const bool written = f.fd() >= 0 && ::write(f.fd(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       fsync(f.fd()) == 0;
  const int error = errno;
  explicit_bzero(text.data(), text.size());
  return written ? ok()
                 : Error{what, std::string("cannot be written: ") + std::strerror(error), "choose another place"};
}
}  // namespace

Result<std::string> keygen(const KeygenOptions& o, Entropy& entropy) {
  KeyPair keys;
  if (o.show) {
    auto read = read_key(o.key_file);
    if (!read) return read.error();
    keys = *read;
  } else {
    keys = transport::draw_key_pair(entropy);
    if (Status s = write_key(o.key_file, keys); !s) return s.error();
  }
  std::string name = o.name;
  if (char host[256] = {}; name.empty() && gethostname(host, sizeof host - 1) == 0) name = host;
  return (name.empty() ? "this-computer" : name) + " " + transport::text_of(keys.open) + "\n";
}

Status use_link_options(const LinkOptions& o, transport::EndpointOptions& out) {
  out.insecure_plaintext = o.insecure_plaintext;
  out.first_port = o.ports;
  out.advertise = o.advertise;
  if (o.key_file.empty()) return ok();
  auto own = read_key(o.key_file);
  if (!own) return own.error();
  const std::string what = "-peers " + o.peers_file;
  const auto text = read_file(what, o.peers_file, false);
  if (!text) return text.error();
  auto peers = transport::parse_peer_list(*text, what);
  if (!peers) return peers.error();
  auto keys = std::make_shared<LinkKeys>();
  keys->own = *own;
  keys->peers = *std::move(peers);
  out.keys = std::move(keys);
  return ok();
}

Result<std::vector<transport::NodeRequest>> node_requests(const std::vector<PeerOption>& peers, const LinkKeys* keys) {
  std::vector<transport::NodeRequest> all;
  for (const PeerOption& p : peers) {
    transport::NodeRequest r{.uri = p.endpoint};
    if (keys) {
      const auto key = keys->key_of_node(p.endpoint, p.name);
      if (!key) return key.error();
      r.key = *key;
    }
    all.push_back(std::move(r));
  }
  return all;
}
}  // namespace pangea::machine
