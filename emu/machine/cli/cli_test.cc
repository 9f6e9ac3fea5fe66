#include <gtest/gtest.h>

#include "emu/machine/cli/number.h"
#include "emu/machine/cli/option_table.h"
#include "emu/machine/cli/options.h"

namespace pangea::machine {
namespace {
using Words = std::vector<std::string>;

RunOptions run(Words words) {
  words.insert(words.begin(), {"run", "-kernel", "k"});
  auto c = parse_command_line(words);
  EXPECT_TRUE(c) << (c ? "" : c.error().line());
  return c ? c->run : RunOptions{};
}
std::string error(Words words) {
  words.insert(words.begin(), {"run", "-kernel", "k"});
  auto c = parse_command_line(words);
  return c ? "no error" : c.error().line();
}

TEST(Number, U64) {
  EXPECT_EQ(parse_u64("0"), 0u);
  EXPECT_EQ(parse_u64("0xf4"), 0xf4u);
  EXPECT_EQ(parse_u64("18446744073709551615"), ~u64{0});
  for (const char* bad : {"", "x", "0x", "-1", "+1", "1 ", " 1", "18446744073709551616", "0xg"})
    EXPECT_FALSE(parse_u64(bad)) << bad;
}

TEST(Number, Sizes) {
  constexpr u64 kMi = 1u << 20;
  EXPECT_EQ(parse_size("512", kMi), 512 * kMi);
  EXPECT_EQ(parse_size("1G", kMi), 1024 * kMi);
  EXPECT_EQ(parse_size("1.5g", kMi), 1536 * kMi);
  EXPECT_EQ(parse_size("4096b", kMi), 4096u);
  EXPECT_EQ(parse_size("64k", kMi), 65536u);
  for (const char* bad : {"", "G", "1.G.", "1x", "1.0000000001G", "0.3b", "99999999T", "-1G", "1GG"})
    EXPECT_FALSE(parse_size(bad, kMi)) << bad;
}

TEST(Number, KeyValues) {
  const auto v = parse_key_values("a,b=c,d=e,,f=g");
  ASSERT_EQ(v.size(), 3u);
  EXPECT_EQ(v[0], (std::pair<std::string, std::string>("a", "")));
  EXPECT_EQ(v[2], (std::pair<std::string, std::string>("d", "e,f=g")));
  EXPECT_TRUE(parse_key_values("").empty());
}

TEST(Normalise, QemuSpelling) {
  const auto n = normalise_arguments(run_options(), {"-m", "1G", "-append", "-x --y=z", "--smp=2", "-nographic"});
  ASSERT_TRUE(n);
  EXPECT_EQ(*n, (Words{"--m==1G", "--append==-x --y=z", "--smp==2", "--nographic"}));
}

TEST(Cli, Defaults) {
  const RunOptions o = run({});
  EXPECT_EQ(o.memory_bytes, u64{512} << 20);
  EXPECT_EQ(o.vcpus, 1u);
  EXPECT_EQ(o.nodes, 1u);
  EXPECT_EQ(o.kernel, "k");
}

TEST(Cli, EverythingTogether) {
  const RunOptions o = run({"-m",          "2G",
                            "-smp",        "4,sockets=2,cores=2",
                            "-initrd",     "i",
                            "-append",     "-v a=b \"c\"",
                            "-serial",     "file:x",
                            "-serial",     "null",
                            "-nographic",  "-no-reboot",
                            "-s",          "-S",
                            "-d",          "int",
                            "-D",          "log",
                            "-device",     "isa-debug-exit,iobase=0xf4,iosize=4",
                            "-nodes",      "2",
                            "-node",       "tcp://h:1",
                            "-node",       "tcp://h:2",
                            "-stats",      "s",
                            "-M",          "pc,hpet=off",
                            "-display",    "none",
                            "-rtc",        "base=2024-01-01",
                            "-check",      "coherence",
                            "-singlestep", "-debugcon",
                            "stdio",       "-torture",
                            "0x12"});
  EXPECT_EQ(o.memory_bytes, u64{2} << 30);
  EXPECT_EQ(o.vcpus, 4u);
  EXPECT_EQ(o.append, "-v a=b \"c\"");
  EXPECT_EQ(o.serial, (Words{"file:x", "null"}));
  EXPECT_TRUE(o.no_reboot && o.start_stopped && o.one_insn_per_block && o.check_coherence && !o.hpet);
  EXPECT_EQ(o.torture_seed, 0x12u);
  EXPECT_EQ(o.gdb, "tcp::1234");
  EXPECT_FALSE(o.pc_testdev);
  EXPECT_TRUE(run({"-device", "isa-debug-exit", "-device", "pc-testdev", "-vnc", "none"}).pc_testdev);
  ASSERT_TRUE(o.debug_exit);
  EXPECT_EQ(o.debug_exit->port, 0xf4);
  EXPECT_EQ(o.debug_exit->bytes, 4);
  EXPECT_EQ(o.nodes, 2u);
  EXPECT_EQ(o.peers, (std::vector<PeerOption>{{"tcp://h:1", ""}, {"tcp://h:2", ""}}));
  EXPECT_EQ(o.rtc.unix_seconds, 1704067200u);
}

// What scripts that start QEMU's translator say beyond what matters here.
TEST(Cli, CalledAsQemuIs) {
  const auto c = parse_command_line({"-nodefaults", "-device", "pc-testdev", "-device", "pci-testdev", "-vnc", "none",
                                     "-machine", "accel=tcg,kernel_irqchip=split,vmport=off", "-kernel", "k"});
  ASSERT_TRUE(c);
  EXPECT_EQ(c->kind, Command::Kind::Run);
  EXPECT_TRUE(c->run.pc_testdev && c->run.pci_testdev);
  const RunOptions o = run({"-chardev", "file,path=x,id=output", "-device", "isa-debugcon,chardev=output", "-chardev",
                            "stdio,mux=on,id=c", "-serial", "chardev:c"});
  EXPECT_EQ(o.debugcon, "file:x");
  EXPECT_EQ(o.debugcon_port, 0xe9);
  EXPECT_EQ(o.serial, (Words{"mon:stdio"}));
  EXPECT_EQ(run({"-chardev", "null,id=a", "-device", "isa-debugcon,iobase=0x402,chardev=a"}).debugcon_port, 0x402);
  EXPECT_EQ(error({"-serial", "chardev:x"}), "-serial chardev:x: there is no -chardev with id=x; add one");
  EXPECT_EQ(error({"-machine", "vmport=on"}), "-machine vmport=on: vmport=on is not supported; leave it out");
  for (const char* word : {"help", "?"}) {
    const auto help = parse_command_line({"run", "-device", word});
    ASSERT_TRUE(help);
    EXPECT_NE(help->text.find("\"pc-testdev\""), std::string::npos);
  }
}

TEST(Cli, OddValuesSurvive) {
  EXPECT_EQ(run({"-append", ""}).append, "");
  EXPECT_EQ(run({"-append", "", "-m", "1G"}).memory_bytes, u64{1} << 30);
  EXPECT_EQ(run({"-append", "a,b [c] --"}).append, "a,b [c] --");
  EXPECT_EQ(run({"-append", "[a,b]"}).append, "[a,b]");
}

TEST(Cli, TheLastValueCounts) { EXPECT_EQ(run({"-m", "1G", "-m", "3G"}).memory_bytes, u64{3} << 30); }

TEST(Cli, MemoryWithoutSuffixIsMebibytes) { EXPECT_EQ(run({"-m", "256"}).memory_bytes, u64{256} << 20); }

TEST(Cli, ANodeMayHoldLessThanTheGuest) {
  EXPECT_EQ(run({"-m", "2G", "-nodes", "2"}).node_bytes, 0u);
  EXPECT_EQ(run({"-m", "2G", "-nodes", "2", "-node-mem", "700"}).node_bytes, u64{700} << 20);
  EXPECT_EQ(run({"-m", "2G", "-node", "tcp://127.0.0.1:1", "-node-mem", "33554433b"}).node_bytes, u64{32} << 20);
  EXPECT_EQ(run({"-m", "512M", "-node-mem", "1G"}).node_bytes, u64{1} << 30);  // room for all of it
  const auto node = parse_command_line({"node", "-listen", "ipc://x", "-node-mem", "1.5G"});
  ASSERT_TRUE(node);
  EXPECT_EQ(node->node.node_bytes, u64{1536} << 20);
}

TEST(Cli, ErrorsSayWhatAndWhatToDo) {
  EXPECT_EQ(error({"-frob"}), "-frob: unknown option; see -h");
  EXPECT_EQ(error({"-drive", "file=x"}), "-drive: not supported: there are no disks yet; leave it out");
  EXPECT_EQ(error({"-m"}), "-m: needs a value; write -m SIZE");
  EXPECT_EQ(error({"-m", "lots"}), "-m lots: not a size; write 512M or 2G");
  EXPECT_EQ(error({"-m", "64k"}), "-m 64k: too little memory for a PC; give 1M or more");
  EXPECT_EQ(error({"-smp", "0"}), "-smp 0: '0' is not a number of vCPUs; write -smp 4");
  EXPECT_EQ(error({"-smp", "4,cores=3"}), "-smp 4,cores=3: the product of the topology is 3, not 4; make them agree");
  EXPECT_EQ(error({"-smp", "256"}), "-smp 256: more than 255 vCPUs; ask for fewer");
  EXPECT_EQ(error({"-nodes", "0"}), "-nodes 0: not a number from 1 to 64; write -nodes 2");
  EXPECT_EQ(error({"-nodes", "2", "-node-mem", "some"}), "-node-mem some: not a size; write 700M or 2G");
  EXPECT_EQ(error({"-nodes", "2", "-node-mem", "1M"}),
            "-node-mem 1M: too little for a node to work with; give 16 MiB or more");
  EXPECT_EQ(error({"-m", "1G", "-node-mem", "700M"}),
            "-node-mem 700M: there is but one node, for 1 GiB of guest memory; add -nodes or -node, or leave it out");
  EXPECT_EQ(error({"-gdb", "tcp::x"}), "-gdb tcp::x: not a place to listen at; write -gdb tcp::1234");
  EXPECT_EQ(error({"stray"}), "stray: not an option; a kernel is given with -kernel; see -h");
  EXPECT_EQ(error({"-accel", "kvm"}), "-accel kvm: Pangea always translates; leave it out");
  EXPECT_EQ(error({"-nographic=1"}), "-nographic: takes no value; see -h");
  EXPECT_EQ(error({"-device", "e1000"}), "-device e1000: not supported; -device help lists the devices there are");
  EXPECT_EQ(error({"-vnc", ":0"}), "-vnc :0: not supported; write -vnc none");
}

TEST(Cli, SuspendToRamIsThereUnlessItIsTakenAway) {
  EXPECT_TRUE(run({}).s3);
  EXPECT_FALSE(run({"-global", "PIIX4_PM.disable_s3=1"}).s3);
  EXPECT_FALSE(run({"-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1"}).s3);
  EXPECT_FALSE(run({"-global", "driver=PIIX4_PM,property=disable_s3,value=on"}).s3);
  EXPECT_TRUE(run({"-global", "PIIX4_PM.disable_s3=1", "-global", "PIIX4_PM.disable_s3=0"}).s3);
  EXPECT_EQ(error({"-global", "PIIX4_PM.disable_s4=0"}),
            "-global PIIX4_PM.disable_s4=0: there is no suspend to disk (S4); leave it out");
  EXPECT_EQ(error({"-global", "PIIX4_PM.disable_s3=maybe"}),
            "-global PIIX4_PM.disable_s3=maybe: neither 0 nor 1; write -global PIIX4_PM.disable_s3=1");
  EXPECT_EQ(error({"-global", "e1000.autonegotiation=off"}),
            "-global e1000.autonegotiation=off: no such property of a device here; leave it out");
}

TEST(Cli, TheSandboxIsOnUnlessItIsTurnedOff) {
  EXPECT_TRUE(run({}).sandbox);
  EXPECT_TRUE(run({"-sandbox", "on"}).sandbox);
  EXPECT_FALSE(run({"-sandbox", "off"}).sandbox);
  EXPECT_EQ(error({"-sandbox", "maybe"}), "-sandbox maybe: neither on nor off; write -sandbox off");
}

TEST(Cli, KeysBelongTogether) {
  EXPECT_EQ(run({"-node", "tcp://h:1,peer=bob"}).peers, (std::vector<PeerOption>{{"tcp://h:1", "bob"}}));
  EXPECT_EQ(run({"-key", "k", "-peers", "p"}).links.peers_file, "p");
  EXPECT_TRUE(run({"-insecure-plaintext"}).links.insecure_plaintext);
  EXPECT_EQ(error({"-key", "k"}), "-key: -key and -peers belong together; give both");
  EXPECT_EQ(error({"-peers", "p"}), "-peers: -key and -peers belong together; give both");
  EXPECT_EQ(error({"-key", "k", "-peers", "p", "-insecure-plaintext"}),
            "-insecure-plaintext: there is a -key as well; leave one of them out");
  EXPECT_EQ(error({"-node", "tcp://h:1,per=bob"}),
            "-node tcp://h:1,per=bob: only ,peer=NAME may follow the address; write tcp://HOST:PORT,peer=NAME");
  const auto k = parse_command_line({"keygen", "-key", "f", "-name", "bob"});
  ASSERT_TRUE(k);
  EXPECT_EQ(k->kind, Command::Kind::Keygen);
  EXPECT_EQ(k->keygen.name, "bob");
  EXPECT_FALSE(parse_command_line({"keygen"}));
  EXPECT_FALSE(parse_command_line({"keygen", "-key", "f", "-name", "two words"}));
}

TEST(Cli, Commands) {
  EXPECT_EQ(parse_command_line({"frob"}).error().what, "frob");
  EXPECT_EQ(parse_command_line({"run"}).error().what, "run");
  EXPECT_EQ(parse_command_line({"node"}).error().what, "node");
  const auto n = parse_command_line({"node", "-listen", "tcp://0.0.0.0:7000"});
  ASSERT_TRUE(n);
  EXPECT_EQ(n->node.listen, "tcp://0.0.0.0:7000");
  for (const Words& w : {Words{}, Words{"-h"}, Words{"run", "-h"}, Words{"node", "--help"}, Words{"--version"},
                         Words{"run", "-d", "help"}}) {
    const auto c = parse_command_line(w);
    ASSERT_TRUE(c);
    EXPECT_EQ(c->kind, Command::Kind::Print);
    EXPECT_FALSE(c->text.empty());
  }
}

TEST(Links, FixedPortsAndWhereOthersReachThem) {
  const auto n = parse_command_line(
      {"node", "-listen", "tcp://127.0.0.1:7000", "-ports", "7001", "-advertise", "tcp://192.0.2.1:8001"});
  ASSERT_TRUE(n);
  EXPECT_EQ(n->node.links.ports, 7001);
  EXPECT_EQ(n->node.links.advertise, "tcp://192.0.2.1:8001");
  EXPECT_EQ(error({"-ports", "65532"}), "-ports 65532: not a port from 1 to 65531; write -ports 7001");
  EXPECT_EQ(error({"-advertise", "tcp://a:8001"}),
            "-advertise: this node's ports are not fixed; add -ports FIRST, and forward five ports to those");
  for (const char* bad : {"a:8001", "tcp://:8001", "tcp://a", "tcp://a:0", "tcp://a:65535"})
    EXPECT_EQ(error({"-ports", "7001", "-advertise", bad}),
              "-advertise " + std::string(bad) + ": not where others reach five ports; write tcp://HOST:PORT");
}

TEST(Help, FitsATerminalAndNamesEveryOption) {
  const std::string page = run_help();
  for (const OptionRow& r : run_options()) {
    if (r.help) {
      EXPECT_NE(page.find("-" + std::string(r.name)), std::string::npos) << r.name;
    }
  }
  usize start = 0;
  while (start < page.size()) {
    const usize end = page.find('\n', start);
    EXPECT_LE(end - start, 110u) << page.substr(start, end - start);
    start = end + 1;
  }
}
}  // namespace
}  // namespace pangea::machine
