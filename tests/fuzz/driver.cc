// Runs a libFuzzer target without libFuzzer: replays inputs, then mutates them from a seed. Slower to find things than
// libFuzzer (it looks at no coverage), but it needs no other compiler and repeats exactly.
//
//   fuzz_X [-runs=N] [-seconds=N] [-seed=N] [-max_len=N] FILE|DIRECTORY...
//
// When the target ends the process, the input that did it is written to ./crash-TARGET-SEED-RUN, and one line says how
// to see it again.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "emu/base/host_ports.h"
#include "emu/base/prng.h"

extern "C" int LLVMFuzzerTestOneInput(const pangea::u8* data, size_t size);

namespace {
using pangea::Prng;
using pangea::u64;
using pangea::u8;
using Bytes = std::vector<u8>;

const Bytes* current;  // for the handler
char crash_name[256];  // written there
struct Options {
  u64 runs = 0, seconds = 0, seed = 1, max_len = 4096;
};

void put(const char* text) {
  if (write(2, text, std::strlen(text)) < 0) _exit(1);
}
void on_crash(int signal) {
  if (FILE* f = std::fopen(crash_name, "wb"); f && current) {
    std::fwrite(current->data(), 1, current->size(), f);
    std::fclose(f);
    put("fuzz: the input is in "), put(crash_name), put("; give that file to the target to see it again\n");
  }
  ::signal(signal, SIG_DFL);
  raise(signal);
}

void run(const Bytes& input) {
  current = &input;
  // A copy of exactly that size, so that a sanitizer sees reads behind its end.
  u8* exact = new u8[input.size() + 1];
  std::copy(input.begin(), input.end(), exact + 1);
  LLVMFuzzerTestOneInput(exact + 1, input.size());
  delete[] exact;
}

constexpr u64 kInteresting[] = {0,
                                1,
                                0x7f,
                                0x80,
                                0xff,
                                0x100,
                                0x7fff,
                                0x8000,
                                0xffff,
                                0x7fffffff,
                                0x80000000,
                                0xffffffff,
                                0x7fffffffffffffff,
                                0x8000000000000000,
                                0xffffffffffffffff};

void mutate(Bytes& b, Prng& rng, const std::vector<Bytes>& corpus, u64 max_len) {
  for (u64 n = 1 + rng.below(8); n > 0; --n) {
    const u64 at = b.empty() ? 0 : rng.below(b.size());
    switch (rng.below(7)) {
      case 0:
        if (!b.empty()) b[at] ^= static_cast<u8>(1u << rng.below(8));
        break;
      case 1:
        if (!b.empty()) b[at] = static_cast<u8>(rng.next());
        break;
      case 2: {
        const u64 width = u64{1} << rng.below(4), value = kInteresting[rng.below(std::size(kInteresting))];
        if (at + width <= b.size()) std::memcpy(&b[at], &value, width);
        break;
      }
      case 3:
        for (u64 k = rng.below(16) + 1; k > 0; --k)
          b.insert(b.begin() + static_cast<std::ptrdiff_t>(at), static_cast<u8>(rng.next()));
        break;
      case 4: {
        const u64 k = std::min<u64>(rng.below(32), b.size() - at);
        b.erase(b.begin() + static_cast<std::ptrdiff_t>(at), b.begin() + static_cast<std::ptrdiff_t>(at + k));
        break;
      }
      case 5: {  // a piece of another input
        const Bytes& other = corpus[rng.below(corpus.size())];
        if (other.empty()) break;
        const u64 from = rng.below(other.size()), k = std::min<u64>(rng.below(64) + 1, other.size() - from);
        b.insert(b.begin() + static_cast<std::ptrdiff_t>(at), other.begin() + static_cast<std::ptrdiff_t>(from),
                 other.begin() + static_cast<std::ptrdiff_t>(from + k));
        break;
      }
      default:
        if (rng.chance(1, 8)) b.resize(rng.below(b.size() + 1));
    }
  }
  if (b.size() > max_len) b.resize(max_len);
}

Bytes read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<Bytes> inputs(const std::vector<std::string>& places) {
  std::vector<std::filesystem::path> files;
  for (const std::string& p : places) {
    if (std::filesystem::is_directory(p))
      for (const auto& e : std::filesystem::directory_iterator(p)) files.push_back(e.path());
    else
      files.emplace_back(p);
  }
  std::sort(files.begin(), files.end());  // so that a seed means the same everywhere
  std::vector<Bytes> all;
  for (const auto& f : files) all.push_back(read(f));
  return all;
}
}  // namespace

int main(int argc, char** argv) {
  Options o;
  std::vector<std::string> places;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const auto number = [&](const char* name, u64& out) {
      const bool is = a.starts_with(name);
      if (is) out = std::strtoull(a.c_str() + std::strlen(name), nullptr, 0);
      return is;
    };
    if (!number("-runs=", o.runs) && !number("-seconds=", o.seconds) && !number("-seed=", o.seed) &&
        !number("-max_len=", o.max_len))
      places.push_back(a);
  }
  for (const int s : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(s, on_crash);
  const std::string target = std::filesystem::path(argv[0]).filename();
  std::vector<Bytes> corpus = inputs(places);
  std::snprintf(crash_name, sizeof crash_name, "crash-%s-replay", target.c_str());
  for (const Bytes& b : corpus) run(b);
  const size_t replayed = corpus.size();
  if (corpus.empty()) corpus.push_back({});
  std::printf("%s: %zu inputs replayed; seed %llu\n", target.c_str(), replayed,
              static_cast<unsigned long long>(o.seed));
  std::fflush(stdout);
  pangea::HostClock clock;
  const u64 end = clock.now_ns() + o.seconds * 1'000'000'000;
  u64 done = 0;
  for (; done < o.runs || (o.seconds && clock.now_ns() < end); ++done) {
    Prng rng(o.seed * 0x9e3779b97f4a7c15 + done);  // each run by itself: -seed and its number repeat it
    Bytes b = corpus[rng.below(corpus.size())];
    mutate(b, rng, corpus, o.max_len);
    std::snprintf(crash_name, sizeof crash_name, "crash-%s-%llu-%llu", target.c_str(),
                  static_cast<unsigned long long>(o.seed), static_cast<unsigned long long>(done));
    run(b);
  }
  std::printf("%s: %llu mutated inputs, none failed\n", target.c_str(), static_cast<unsigned long long>(done));
  return 0;
}
