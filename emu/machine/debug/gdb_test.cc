// The gdb stub's packet layer, register file and session, against a machine that is not there.
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "emu/base/prng.h"
#include "emu/machine/debug/gdb_registers.h"
#include "emu/machine/debug/gdb_session.h"
#include "emu/machine/debug/remote_debug.h"

namespace pangea::machine {
namespace {
std::vector<std::string> packets(GdbFramer& f, std::string_view bytes) {
  std::vector<std::string> out;
  for (const char c : bytes)
    if (f.feed(static_cast<u8>(c)) == GdbFramer::Event::Packet) out.push_back(f.packet());
  return out;
}

TEST(GdbFramer, FramesAndUnframes) {
  EXPECT_EQ(GdbFramer::frame("OK"), "$OK#9a");
  GdbFramer f;
  EXPECT_EQ(packets(f, "+$qC#b4$g#67"), (std::vector<std::string>{"qC", "g"}));
  for (const std::string text : {"", "a$b#c}d*e", "plain"})
    EXPECT_EQ(packets(f, GdbFramer::frame(text)), (std::vector<std::string>{text}));
}

TEST(GdbFramer, WrongSumsAndInterrupts) {
  GdbFramer f;
  EXPECT_TRUE(packets(f, "$qC#00").empty());
  EXPECT_TRUE(f.bad_sum());
  EXPECT_EQ(f.feed(0x03), GdbFramer::Event::Interrupt);
  EXPECT_EQ(f.feed('-'), GdbFramer::Event::Resend);
  packets(f, "$" + std::string(GdbFramer::kMaxPacket + 1, 'x') + "#00");
  EXPECT_TRUE(f.bad_sum());
  EXPECT_EQ(packets(f, "$g#67").size(), 1u);
}

TEST(GdbFramer, SurvivesNoise) {
  Prng random(3);
  GdbFramer f;
  for (int i = 0; i < 200'000; ++i) f.feed(static_cast<u8>("$#}*-+\x03gmX0f"[random.below(12)]));
  while (f.feed('#') == GdbFramer::Event::None && random.below(100)) f.feed('0');
}

TEST(GdbText, Numbers) {
  GdbText t("1f,ffffffffffffffff:10000000000000000");
  EXPECT_EQ(t.hex(), 0x1fu);
  EXPECT_TRUE(t.eat(","));
  EXPECT_EQ(t.hex(), ~u64{0});
  EXPECT_FALSE(t.hex());
  EXPECT_TRUE(t.eat(":"));
  EXPECT_FALSE(t.hex());
  EXPECT_FALSE(from_hex("abc"));
  EXPECT_FALSE(from_hex("zz"));
  EXPECT_EQ(from_hex("6f6b"), "ok");
}

TEST(GdbRegisters, BlockRoundTrip) {
  VcpuRegisters r;
  for (unsigned i = 0; i < 16; ++i) r.cpu.gpr[i] = 0x1111111111111111ULL * i;
  r.cpu.rip = 0xffffffff81000000;
  r.cpu.cr3 = 0x1234000;
  r.cpu.pkru = 0x55555554;
  r.fxsave[160] = 0x5a;
  const std::string block = gdb_read_all(r);
  EXPECT_EQ(gdb_read(r, 0), "0000000000000000");
  EXPECT_EQ(gdb_read(r, 1), "3333333333333333");   // rbx
  EXPECT_EQ(gdb_read(r, 16), "00000081ffffffff");  // rip
  VcpuRegisters copy;
  EXPECT_TRUE(gdb_write_all(copy, block));
  EXPECT_EQ(gdb_read_all(copy), block);
  EXPECT_EQ(copy.cpu.pkru, 0x55555554u);
  EXPECT_FALSE(gdb_write_all(copy, block.substr(2)));
  EXPECT_FALSE(gdb_write_all(copy, block + "00"));
  EXPECT_FALSE(gdb_write(copy, gdb_register_count(), "00"));
  EXPECT_EQ(gdb_read(copy, gdb_register_count()), "");
}

class FakeHost final : public DebugHost, public devices::DmaPort {
 public:
  u32 vcpus() const override { return 2; }
  bool pause() override {
    ++pauses;
    return true;
  }
  void resume() override { ++resumes; }
  bool read_registers(VcpuId id, VcpuRegisters& out) override {
    if (id.v >= 2) return false;
    out = registers[id.v];
    out.cpu.id = id;
    return true;
  }
  bool write_registers(VcpuId id, const VcpuRegisters& in) override {
    registers[id.v] = in;
    return true;
  }
  void order(const DebugOrders& o) override { orders = o; }
  devices::DmaPort& memory() override { return *this; }
  std::string describe(bool) override { return "two vCPUs\n"; }
  void quit() override { ++quits; }
  void reset() override {}
  void press_power_button() override { ++buttons; }
  void wake() override { ++wakes; }
  devices::DmaStatus read(Gpa from, std::span<u8> into) override {
    if (from.v + into.size() > sizeof ram) return devices::DmaStatus::NoMemory;
    std::memcpy(into.data(), ram + from.v, into.size());
    return devices::DmaStatus::Ok;
  }
  devices::DmaStatus write(Gpa to, std::span<const u8> from) override {
    if (to.v + from.size() > sizeof ram) return devices::DmaStatus::NoMemory;
    std::memcpy(ram + to.v, from.data(), from.size());
    return devices::DmaStatus::Ok;
  }
  VcpuRegisters registers[2];
  DebugOrders orders;
  u8 ram[8192] = {};
  int pauses = 0, resumes = 0, quits = 0, buttons = 0, wakes = 0;
};

class Session : public testing::Test {
 protected:
  std::string ask(const std::string& text) {
    replies.clear();
    session.packet(text);
    return replies.empty() ? "(none)" : replies.back();
  }
  FakeHost host;
  std::vector<std::string> replies;
  GdbSession session{host, [this](const std::string& t) { replies.push_back(t); }, true};
};

TEST_F(Session, AClientStopsTheMachine) {
  EXPECT_NE(ask("qSupported:multiprocess+").find("vContSupported+"), std::string::npos);
  EXPECT_EQ(host.pauses, 1);
  EXPECT_EQ(ask("?"), "T02thread:1;");
  EXPECT_EQ(host.pauses, 1);
  EXPECT_EQ(ask("QStartNoAckMode"), "OK");
  EXPECT_TRUE(session.no_ack());
  EXPECT_EQ(ask("vUnknown"), "");
}

TEST_F(Session, Threads) {
  EXPECT_EQ(ask("qfThreadInfo"), "m1,2");
  EXPECT_EQ(ask("T2"), "OK");
  EXPECT_EQ(ask("T3"), "E01");
  EXPECT_EQ(ask("Hg2"), "OK");
  host.registers[1].cpu.rip = 0x42;
  EXPECT_EQ(ask("p10"), "4200000000000000");
  EXPECT_EQ(ask("Hg9"), "E01");
  EXPECT_NE(ask("qThreadExtraInfo,2").size(), 0u);
}

TEST_F(Session, RegistersAndMemory) {
  EXPECT_EQ(ask("P10=8877665544332211"), "OK");
  EXPECT_EQ(host.registers[0].cpu.rip, 0x1122334455667788u);
  EXPECT_EQ(ask("P10=88"), "E01");
  const std::string block = ask("g");
  EXPECT_EQ(ask("G" + block), "OK");
  EXPECT_EQ(ask("M10,3:010203"), "OK");
  EXPECT_EQ(ask("m10,4"), "01020300");
  EXPECT_EQ(ask("X20,2:AB"), "OK");
  EXPECT_EQ(ask("m20,2"), "4142");
  EXPECT_EQ(ask("m1ffe,8"), "0000");  // as far as there is memory
  EXPECT_EQ(ask("m3000,8"), "E0e");
  EXPECT_EQ(ask("M10,4:0102"), "E01");
  EXPECT_EQ(ask("m10"), "E01");
}

TEST_F(Session, PointsAndRunning) {
  EXPECT_EQ(ask("Z0,1000,1"), "OK");
  EXPECT_EQ(ask("Z1,1000,1"), "OK");
  EXPECT_EQ(ask("Z2,2000,8"), "OK");
  EXPECT_EQ(ask("Z2,2000,3"), "E16");
  EXPECT_EQ(ask("vCont;c"), "(none)");
  EXPECT_EQ(host.resumes, 1);
  EXPECT_EQ(host.orders.breakpoints, (std::vector<u64>{0x1000}));
  EXPECT_EQ(host.orders.watchpoints.size(), 1u);
  session.stopped({DebugStop::Kind::Watchpoint, VcpuId{1}, 0x2000, false});
  EXPECT_EQ(replies.back(), "T05thread:2;watch:2000;");
  EXPECT_EQ(ask("z0,1000,1"), "OK");
  EXPECT_EQ(ask("vCont;s:2;c"), "(none)");
  EXPECT_EQ(host.orders.steps, (std::vector<VcpuId>{VcpuId{1}}));
  EXPECT_TRUE(host.orders.breakpoints.empty());
  session.interrupt();
  EXPECT_EQ(replies.back(), "T02thread:2;");
  EXPECT_EQ(ask("vCont;c:1;s"), "(none)");
  EXPECT_TRUE(host.orders.held.empty());
  EXPECT_EQ(host.orders.steps, (std::vector<VcpuId>{VcpuId{1}}));
}

TEST_F(Session, TwoStopsAtOnceAreBothReported) {
  ask("Z1,1000,1");
  host.registers[1].cpu.rip = 0x1000;
  ask("c");
  session.stopped({DebugStop::Kind::Breakpoint, VcpuId{0}});
  session.stopped({DebugStop::Kind::Breakpoint, VcpuId{1}});
  EXPECT_EQ(replies.back(), "T05thread:1;hwbreak:;");
  EXPECT_EQ(ask("c"), "T05thread:2;hwbreak:;");
  EXPECT_EQ(host.resumes, 1);
  EXPECT_EQ(ask("c"), "(none)");
  EXPECT_EQ(host.resumes, 2);
}

TEST_F(Session, ThreadsThatNoActionNamesStay) {
  ask("Z1,1000,1");
  host.registers[0].cpu.rip = host.registers[1].cpu.rip = 0x1000;
  ask("c");
  session.stopped({DebugStop::Kind::Breakpoint, VcpuId{0}});
  session.stopped({DebugStop::Kind::Breakpoint, VcpuId{1}});
  // As gdb leaves a breakpoint: without it, one thread steps.
  ask("z1,1000,1");
  EXPECT_EQ(ask("vCont;s:1"), "(none)");
  EXPECT_EQ(host.orders.steps, (std::vector<VcpuId>{VcpuId{0}}));
  EXPECT_EQ(host.orders.held, (std::vector<VcpuId>{VcpuId{1}}));
  host.registers[0].cpu.rip = 0x1001;
  session.stopped({DebugStop::Kind::Step, VcpuId{0}});
  EXPECT_EQ(replies.back(), "T05thread:1;");
  ask("Z1,1000,1");
  EXPECT_EQ(ask("vCont;c"), "T05thread:2;hwbreak:;");  // nothing was lost meanwhile
  EXPECT_EQ(ask("vCont;c"), "(none)");
  EXPECT_TRUE(host.orders.held.empty());
  EXPECT_EQ(host.orders.passes, (std::vector<VcpuId>{VcpuId{0}, VcpuId{1}}));
}

TEST_F(Session, TheMonitorHasAPowerButton) {
  const auto command = [this](std::string_view text) {
    std::string hex;
    for (const char c : text) hex += fmt::format("{:02x}", static_cast<unsigned>(c));
    return ask("qRcmd," + hex);
  };
  EXPECT_EQ(command("system_powerdown"), "OK");
  EXPECT_EQ(host.buttons, 1);
  EXPECT_EQ(command("system_wakeup"), "OK");
  EXPECT_EQ(host.wakes, 1);
}

TEST_F(Session, DetachAndKill) {
  EXPECT_EQ(ask("Z0,1000,1"), "OK");
  EXPECT_EQ(ask("D"), "OK");
  EXPECT_TRUE(host.orders.idle());
  EXPECT_EQ(host.resumes, 1);
  ask("k");
  EXPECT_EQ(host.quits, 1);
}

TEST_F(Session, DescriptionComesInParts) {
  std::string xml;
  for (;;) {
    const std::string part = ask(fmt::format("qXfer:features:read:target.xml:{:x},800", xml.size()));
    xml += part.substr(1);
    if (part[0] == 'l') break;
    ASSERT_EQ(part[0], 'm');
  }
  EXPECT_EQ(xml, gdb_target_description());
  EXPECT_EQ(ask("qXfer:features:read:other.xml:0,800"), "");
}

TEST_F(Session, NoiseNeverCrashes) {
  Prng random(11);
  const std::string alphabet = "?qQHTgGpPmMXZzvcsDk0123456789abcdef,:;=-Cont";
  for (int i = 0; i < 20'000; ++i) {
    std::string s;
    for (u64 n = random.below(24); n > 0; --n) s += alphabet[random.below(alphabet.size())];
    session.packet(s);
  }
}

TEST(RemoteDebug, RecordsSurviveTheWire) {
  DebugOrders o;
  o.breakpoints = {1, ~u64{0}};
  o.watchpoints = {{0x1000, 4, true}};
  o.steps = {VcpuId{1}};
  o.held = {VcpuId{0}};
  o.passes = {VcpuId{1}, VcpuId{0}};
  const auto bytes = encode(o);
  const auto back = decode_orders(bytes, 2);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->breakpoints, o.breakpoints);
  EXPECT_EQ(back->watchpoints, o.watchpoints);
  EXPECT_EQ(back->steps, o.steps);
  EXPECT_EQ(back->held, o.held);
  EXPECT_EQ(back->passes, o.passes);
  EXPECT_FALSE(decode_orders(bytes, 0));  // more steps than vCPUs
  for (usize n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode_orders(std::span(bytes).first(n), 2)) << n;
  const DebugStop s{DebugStop::Kind::Watchpoint, VcpuId{1}, 0x2000, true};
  const auto stop = decode_stop(encode(s), 2);
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->address, 0x2000u);
  EXPECT_FALSE(decode_stop(encode(s), 1));
  EXPECT_FALSE(decode_stop({}, 1));
}

TEST(RemoteDebug, ASilentNodeHasNoRegisters) {
  int calls = 0;
  RemoteNodeDebug d({VcpuId{1}}, [&](std::span<const u8>) -> std::optional<std::vector<u8>> {
    return ++calls == 1 ? std::nullopt : std::optional(std::vector<u8>(3));
  });
  VcpuRegisters r;
  EXPECT_FALSE(d.read_registers(VcpuId{0}, r));
  EXPECT_EQ(calls, 0);
  EXPECT_FALSE(d.read_registers(VcpuId{1}, r));
  EXPECT_FALSE(d.read_registers(VcpuId{1}, r));  // a reply of the wrong size
}
}  // namespace
}  // namespace pangea::machine
