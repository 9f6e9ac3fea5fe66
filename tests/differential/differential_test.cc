// Random sequences from the instruction table, and webs of jumps: the translator against the host's processor.
// Registers, flags, memory, vector and x87 state, MXCSR, and faults with their place.
//
//   PANGEA_SEED=N        the seed (printed with every failure)
//   PANGEA_SEQUENCES=N   how many random sequences (default 20000)
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>

#include "emu/x86/host_probe.h"
#include "tests/differential/lab.h"

namespace pangea::differential {
namespace {
using namespace x86;

u64 env_number(const char* name, u64 otherwise) {
  const char* v = std::getenv(name);
  return v ? std::strtoull(v, nullptr, 0) : otherwise;
}

class Differential : public testing::TestWithParam<Blocks> {
 protected:
  static void SetUpTestSuite() {
    static const bool once = (native_setup(), true);
    (void)once;
  }
};

/// The bytes decode to what was asked for.
bool contains(const Sequence& s, const IsaRow& row) {
  std::vector<u8> bytes = s.bytes;
  bytes.resize(bytes.size() + 15);
  for (usize at = s.start; at < s.bytes.size();) {
    Insn i;
    if (decode(bytes.data() + at, 15, CodeSize::Bits64, i) != DecodeStatus::Ok) return false;
    if (i.row == &row) return true;
    at += i.length;
  }
  return false;
}

// What EveryRow leaves out, by reason.
TEST(Coverage, EveryRowRunsOrHasAReason) {
  const CpuidConfig cpu = host_features();
  std::map<std::string, std::vector<std::string>> reasons;
  usize run = 0;
  for (const IsaRow& row : isa_rows()) {
    if (const char* reason = why_not(row, cpu))
      reasons[reason].push_back(row.name);
    else
      ++run;
  }
  fmt::print("{} of {} rows run\n", run, isa_rows().size());
  for (const auto& [reason, names] : reasons)
    fmt::print("{} rows: {}: {}\n", names.size(), reason, fmt::join(names, " "));
  EXPECT_GT(run, cpu.has(Feature::avx2) ? 1200u : 700u);
}

/// Compares what `make(prng, row)` makes of every row that this host has, `tries` times each. Returns how many rows.
template <class Make>
unsigned compare_rows(Lab& lab, u64 factor, u64 tries, Make&& make) {
  const u64 seed = env_number("PANGEA_SEED", 1);
  unsigned rows = 0, failures = 0;
  for (const IsaRow& row : isa_rows()) {
    if (why_not(row, lab.fixture().cpuid)) continue;
    ++rows;
    for (u64 n = 0; n < tries; ++n) {
      Prng prng(seed * factor + n + 1000 * row_index(&row));
      const std::optional<Sequence> s = make(prng, row);
      if (!s) break;
      const std::string d = lab.compare(*s, prng);
      if (d.empty()) continue;
      ADD_FAILURE() << "PANGEA_SEED=" << seed << " row " << row.name << " #" << row_index(&row) << " try " << n << "\n"
                    << d;
      if (++failures > 30) return rows;
      break;
    }
  }
  return rows;
}

TEST_P(Differential, EveryRow) {
  Lab lab(GetParam());
  const unsigned rows =
      compare_rows(lab, 1'000'003, 24, [&lab](Prng& prng, const IsaRow& row) -> std::optional<Sequence> {
        const Sequence s = make_sequence(prng, 1, &row, lab.fixture().cpuid);
        EXPECT_TRUE(contains(s, row)) << row.name << " is encoded as something else";
        return s;
      });
  EXPECT_GT(rows, 500u);
}

// Which fault comes first: of alignment or of the page.
TEST_P(Differential, EveryRowWithoutAPage) {
  Lab lab(GetParam());
  compare_rows(lab, 3'000'017, 12, [](Prng& prng, const IsaRow& row) -> std::optional<Sequence> {
    if (row.modrm == ModRm::None || row.modrm == ModRm::Reg || !host_checks_alignment(row)) return std::nullopt;
    return make_unmapped(prng, row);
  });
}

/// Compares `count` sequences that `make(prng)` makes, each of a seed that `factor` sets apart from other tests'.
template <class Make>
void compare_many(Lab& lab, const char* what, u64 factor, u64 count, Make&& make) {
  const u64 seed = env_number("PANGEA_SEED", 1);
  unsigned failures = 0;
  for (u64 n = 0; n < count; ++n) {
    Prng prng(seed * factor + n);
    const Sequence s = make(prng);
    const std::string d = lab.compare(s, prng);
    if (d.empty()) continue;
    ADD_FAILURE() << "PANGEA_SEED=" << seed << " " << what << " " << n << "\n" << d;
    if (++failures > 10) return;
  }
}

TEST_P(Differential, RandomSequences) {
  Lab lab(GetParam());
  const u64 count = env_number("PANGEA_SEQUENCES", 20000);
  compare_many(lab, "sequence", 7'000'003, count, [&lab](Prng& prng) {
    return make_sequence(prng, 2 + static_cast<unsigned>(prng.below(12)), nullptr, lab.fixture().cpuid);
  });
}

TEST_P(Differential, RandomLoops) {
  Lab lab(GetParam());
  const u64 count = env_number("PANGEA_SEQUENCES", 20000) / 2;
  compare_many(lab, "loop", 9'000'011, count, [&lab](Prng& prng) { return make_loop(prng, lab.fixture().cpuid); });
}

TEST_P(Differential, RandomWebs) {
  Lab lab(GetParam());
  compare_many(lab, "web", 11'000'027, env_number("PANGEA_SEQUENCES", 20000) / 2,
               [](Prng& prng) { return make_web(prng, false); });
}

TEST_P(Differential, RandomWebsOf32Bits) {
  if (!native_has_bits32()) GTEST_SKIP() << "this host's kernel runs no 32-bit code";
  Lab lab(GetParam());
  compare_many(lab, "web", 13'000'037, env_number("PANGEA_SEQUENCES", 20000) / 2,
               [](Prng& prng) { return make_web(prng, true); });
}
INSTANTIATE_TEST_SUITE_P(Blocks, Differential, testing::Values(Blocks::Whole, Blocks::OneInstruction, Blocks::Hot),
                         [](const auto& p) {
                           return p.param == Blocks::Whole            ? "Whole"
                                  : p.param == Blocks::OneInstruction ? "OneInstruction"
                                                                      : "Hot";
                         });
}  // namespace
}  // namespace pangea::differential
