// The decoder against Capstone, an independent implementation: the whole opcode space under every class of prefixes,
// and random bytes. Validity and length must agree, or oracle_differences.cc must say why not.
#include <capstone/capstone.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "emu/base/assert.h"
#include "emu/base/prng.h"
#include "emu/x86/isa_query.h"
#include "emu/x86/oracle_differences.h"

namespace pangea::x86 {
namespace {
constexpr usize kBytes = 15;
constexpr CodeSize kSizes[] = {CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64};

class Oracle {
 public:
  Oracle() {
    constexpr cs_mode kModes[] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    for (unsigned i = 0; i < 3; i++) PANGEA_ASSERT(cs_open(CS_ARCH_X86, kModes[i], &handles_[i]) == CS_ERR_OK);
    insn_ = cs_malloc(handles_[0]);
  }
  ~Oracle() {
    cs_free(insn_, 1);
    for (csh& h : handles_) cs_close(&h);
  }
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;

  /// Compares both decoders on 15 bytes.
  void compare(const std::array<u8, 32>& bytes, CodeSize size) {
    compared_++;
    OracleCase c{};
    const DecodeStatus status = decode(bytes.data(), kBytes, size, c.insn);
    const u8* p = bytes.data();
    usize left = kBytes;
    u64 address = 0;
    const bool theirs = cs_disasm_iter(handles_[static_cast<unsigned>(size)], &p, &left, &address, insn_);
    const bool ours = status == DecodeStatus::Ok;
    if (ours == theirs && (!ours || c.insn.length == insn_->size)) return;
    c.kind = !theirs ? Disagreement::OnlyOurs : !ours ? Disagreement::OnlyTheirs : Disagreement::Length;
    c.size = size;
    c.bytes = bytes.data();
    c.status = status;
    if (theirs) c.name = insn_->mnemonic;
    describe_prefixes(c);
    explain(c);
  }

  /// Fails for what has no reason; prints how often each reason was needed.
  void report() {
    fmt::print("{} byte strings compared\n", compared_);
    const auto differences = oracle_differences();
    for (usize i = 0; i < differences.size(); i++) fmt::print("{:9} {}\n", explained_[i], differences[i].reason);
    for (const auto& [what, sample] : unexplained_) ADD_FAILURE() << what << ", first as " << sample;
  }
  const std::map<usize, u64>& explained() const { return explained_; }

 private:
  static void describe_prefixes(OracleCase& c) {
    bool rex = false;
    for (; c.prefixes < kBytes; c.prefixes++) {
      const u8 b = c.bytes[c.prefixes];
      const bool is_rex = c.size == CodeSize::Bits64 && (b & 0xf0) == 0x40;
      const bool segment = (b & 0xe7) == 0x26 || b == 0x64 || b == 0x65;
      if (!is_rex && !segment && b != 0x66 && b != 0x67 && b != 0xf0 && b != 0xf2 && b != 0xf3) return;
      if (rex) c.dead_rex = true;
      rex = is_rex;
      c.has66 |= b == 0x66;
      c.has67 |= b == 0x67;
      c.lock |= b == 0xf0;
      if (b == 0xf2 || b == 0xf3) c.rep = true, c.last_rep = b;
    }
  }
  void explain(const OracleCase& c) {
    const auto differences = oracle_differences();
    for (usize i = 0; i < differences.size(); i++)
      if (differences[i].applies(c)) {
        explained_[i]++;
        return;
      }
    static constexpr const char* kKinds[] = {"only we decode", "only Capstone decodes", "lengths differ for"};
    const std::string_view name = c.kind == Disagreement::OnlyTheirs ? c.name : mnemonic(c.insn);
    std::string what =
        fmt::format("{} {} ({}-bit)", kKinds[static_cast<unsigned>(c.kind)], name, 16 << static_cast<unsigned>(c.size));
    std::string sample;
    for (usize i = 0; i < kBytes; i++) sample += fmt::format("{:02x} ", c.bytes[i]);
    unexplained_.emplace(std::move(what), std::move(sample));
  }

  csh handles_[3] = {};
  cs_insn* insn_ = nullptr;
  u64 compared_ = 0;
  std::map<usize, u64> explained_;
  std::map<std::string, std::string> unexplained_;
};

u64 seed() {
  const char* text = std::getenv("PANGEA_SEED");
  return text ? std::strtoull(text, nullptr, 0) : 0x5eed;
}

class Bytes {
 public:
  explicit Bytes(Prng& rng) : rng_(rng) {}
  /// `start`, then random bytes.
  const std::array<u8, 32>& from(const std::vector<u8>& start) {
    usize n = 0;
    for (; n < start.size(); n++) b_[n] = start[n];
    for (; n < b_.size(); n++) b_[n] = static_cast<u8>(rng_.next());
    return b_;
  }

 private:
  Prng& rng_;
  std::array<u8, 32> b_{};
};

class DecoderOracle : public testing::Test {
 protected:
  static void SetUpTestSuite() { fmt::print("PANGEA_SEED={:#x}\n", seed()); }
  Prng rng_{seed()};
  Bytes bytes_{rng_};
};

TEST_F(DecoderOracle, OpcodeSpaceAndRandomBytes) {
  Oracle oracle;
  const std::vector<std::vector<u8>> prefixes = {{},           {0x66}, {0xf2},       {0xf3},       {0x66, 0xf2},
                                                 {0x66, 0xf3}, {0xf0}, {0xf0, 0x66}, {0xf2, 0xf0}, {0x67},
                                                 {0x67, 0x66}, {0x64}, {0x2e},       {0xf2, 0xf3}};
  const std::vector<std::vector<u8>> rex = {{0x40},       {0x41},       {0x48},       {0x4f},       {0x66, 0x48},
                                            {0xf2, 0x48}, {0xf3, 0x48}, {0x48, 0x66}, {0xf0, 0x48}, {0xf3, 0x41}};
  const std::vector<std::vector<u8>> escapes = {{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
  for (const CodeSize size : kSizes) {
    auto all = prefixes;
    if (size == CodeSize::Bits64) all.insert(all.end(), rex.begin(), rex.end());
    for (const auto& prefix : all)
      for (const auto& escape : escapes)
        for (unsigned i = 0; i < 0x10000; i++) {
          std::vector<u8> start = prefix;
          start.insert(start.end(), escape.begin(), escape.end());
          start.push_back(static_cast<u8>(i >> 8));
          start.push_back(static_cast<u8>(i));
          oracle.compare(bytes_.from(start), size);
        }
  }
  // VEX: both lengths of prefix, every second byte, opcode and map, random ModRM.
  for (const CodeSize size : kSizes)
    for (unsigned map = 0; map < 4; map++)
      for (unsigned i = 0; i < 0x10000; i++) {
        const u8 low = static_cast<u8>(i), opcode = static_cast<u8>(i >> 8);
        const u8 fixed = size == CodeSize::Bits64 ? 0 : 0xc0;
        const u8 rxb = static_cast<u8>((rng_.next() & 0xe0) | fixed);
        if (map == 0)
          oracle.compare(bytes_.from({0xc5, static_cast<u8>(low | fixed), opcode}), size);
        else
          oracle.compare(bytes_.from({0xc4, static_cast<u8>(rxb | map), low, opcode}), size);
      }
  for (unsigned i = 0; i < 1'200'000; i++) {
    const std::array<u8, 32>& b = bytes_.from({});
    for (const CodeSize size : kSizes) oracle.compare(b, size);
  }
  oracle.report();
  if (std::getenv("PANGEA_SEED")) return;  // some reasons are rare: only the usual seed must need them all
  for (usize i = 0; i < oracle_differences().size(); i++)
    EXPECT_TRUE(oracle.explained().count(i)) << "never needed: " << oracle_differences()[i].reason;
}
}  // namespace
}  // namespace pangea::x86
