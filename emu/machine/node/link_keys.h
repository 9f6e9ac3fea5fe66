// Key files: `pangea keygen`, and what -key, -peers and -insecure-plaintext mean.
#pragma once
#include <memory>
#include <string>

#include "emu/base/ports.h"
#include "emu/machine/cli/options.h"
#include "transport/join.h"

namespace pangea::machine {
/// What is in a small file. Error, with `what` as its first words: it cannot be read, is far too long, or others than
/// its owner can read a `secret` one.
Result<std::string> read_file(const std::string& what, const std::string& path, bool secret);
/// Makes a key file, which only its owner can read, or reads one (`-show`). Returns the line for lists of peers.
/// Error: the file exists already, or cannot be written or read.
Result<std::string> keygen(const KeygenOptions& options, Entropy& entropy);
/// Puts what the person said about links into what the join wants. Error: a file cannot be read, is none of its kind,
/// or others can read the secret.
Status use_link_options(const LinkOptions& options, transport::EndpointOptions& out);
/// The waiting nodes that -node named, with their keys. Error: one whose key is not known.
Result<std::vector<transport::NodeRequest>> node_requests(const std::vector<PeerOption>& peers,
                                                          const transport::LinkKeys* keys);
}  // namespace pangea::machine
