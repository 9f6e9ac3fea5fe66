// What a person asked for: the command line as typed values, and nothing else. No defaults are filled in later.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::machine {

/// `-device isa-debug-exit`: a write of v to `port` ends the process with status (v << 1) | 1.
struct DebugExitOption {
  u16 port = 0x501;
  u16 bytes = 2;  // width of the port range
};

/// `-rtc base=`: what the RTC shows at start.
struct RtcOption {
  enum class Base : u8 { Utc, LocalTime, Date } base = Base::Utc;
  u64 unix_seconds = 0;  // Base::Date
};

/// How this process and others on the network know each other.
struct LinkOptions {
  std::string key_file, peers_file;  // both or neither
  bool insecure_plaintext = false;   // other computers without keys
  u16 ports = 0;                     // first TCP port of this node's channels; 0: any free ones
  std::string advertise;             // tcp://HOST:PORT under which others reach `ports`; empty: where they are
};

/// `-node ENDPOINT[,peer=NAME]`.
struct PeerOption {
  std::string endpoint;
  std::string name;  // its line in the list of peers; empty: by host
  bool operator==(const PeerOption&) const = default;
};

struct RunOptions {
  u64 memory_bytes = u64{512} << 20;
  u32 vcpus = 1;
  std::string cpu = "max";
  std::string kernel, initrd, append;
  std::vector<std::string> serial;  // back ends of COM1..COM4 as QEMU spells them; empty: mon:stdio
  std::string debugcon;             // back end of the debug console; empty: none
  u16 debugcon_port = 0xe9;         // where it is too, beside 0xe9
  std::optional<DebugExitOption> debug_exit;
  bool pc_testdev = false;
  bool pci_testdev = false;
  RtcOption rtc;
  bool hpet = true;
  bool s3 = true;  // ACPI suspend to RAM
  bool no_reboot = false;
  bool no_shutdown = false;
  bool start_stopped = false;  // -S
  std::string gdb;             // "tcp:HOST:PORT"; empty: none
  std::string name;
  std::string symbols;     // System.map
  std::string stats_file;  // empty: none
  std::string log_categories, log_file;
  bool one_insn_per_block = false;
  u64 torture_seed = 0;  // 0: no torture
  bool check_coherence = false;
  bool sandbox = true;
  u64 node_bytes = 0;             // guest memory that each of them may hold at a time; 0: any amount
  u32 nodes = 1;                  // node processes on this computer
  std::vector<PeerOption> peers;  // waiting nodes on other computers
  std::string secret_file;        // cluster secret; empty: none
  LinkOptions links;
};

struct NodeOptions {
  std::string listen;  // endpoint
  u64 node_bytes = 0;  // guest memory that it may hold at a time; 0: any amount
  std::string secret_file;
  LinkOptions links;
  std::string log_categories, log_file;
  std::string stats_file;
  bool sandbox = true;
  bool once = true;  // serve one machine, then end
  // Set by `pangea run` for the nodes that it starts itself.
  bool child = false;
};

/// `pangea keygen`.
struct KeygenOptions {
  std::string key_file;
  std::string name;   // empty: the host's
  bool show = false;  // print the public key of a file that exists
};

/// What the process has to do.
struct Command {
  enum class Kind : u8 { Run, Node, Keygen, Print } kind = Kind::Print;
  RunOptions run;
  NodeOptions node;
  KeygenOptions keygen;
  std::string text;  // Kind::Print: goes to stdout, exit status 0
};

/// Reads the command line (without argv[0]). Error: the one line to print; the exit status is 2.
Result<Command> parse_command_line(const std::vector<std::string>& arguments);
}  // namespace pangea::machine
