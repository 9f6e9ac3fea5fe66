// Processes: fork and exec from all vCPUs at once, copy-on-write in both directions, and a stream through a pipe.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "prove.h"

static int child_status(long seed) { return (int)(prove_mix((uint64_t)seed) & 0x7f); }

// What the program does when it was started again as `prove --child SEED`.
int prove_child(const char* argument) { return child_status(atol(argument)); }

static void exec_worker(Prove* p, int index, void* shared) {
  long rounds = *(const long*)shared;
  for (long r = 0; r < rounds; ++r) {
    char seed[24];
    long number = index * 100000 + r;
    snprintf(seed, sizeof seed, "%ld", number);
    pid_t pid = fork();
    if (pid == 0) {
      char* arguments[] = {(char*)"prove", (char*)"--child", seed, NULL};
      execv(p->self, arguments);
      _exit(126);
    }
    if (pid < 0) {
      prove_fail(p, "fork: %s", strerror(errno));
      return;
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
      prove_fail(p, "child %ld did not exit by itself (status %x)", number, (unsigned)status);
    } else if (WEXITSTATUS(status) != child_status(number)) {
      prove_fail(p, "child %ld exits %d, want %d", number, WEXITSTATUS(status), child_status(number));
    }
  }
}

bool check_fork_exec(Prove* p) {
  long rounds = 6 * p->scale;
  if (!prove_on_all_cpus(p, exec_worker, &rounds)) return false;
  prove_note(p, "%ld processes from each vCPU", rounds);
  return true;
}

enum { kCowPages = 16, kCowWords = kCowPages * kPageSize / 8 };

static bool all_words(const uint64_t* words, uint64_t seed) {
  for (size_t i = 0; i < kCowWords; i += 64) {
    if (words[i] != prove_mix(seed + i)) return false;
  }
  return true;
}

static void fill_words(uint64_t* words, uint64_t seed) {
  for (size_t i = 0; i < kCowWords; i += 64) words[i] = prove_mix(seed + i);
}

// The child runs on the next vCPU. It must see what the parent wrote before the fork and nothing after it; the parent
// must see nothing of what the child writes, except through the shared page.
static void cow_worker(Prove* p, int index, void* shared) {
  long rounds = *(const long*)shared;
  uint64_t* own = mmap(NULL, kCowPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint64_t* common = mmap(NULL, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (own == MAP_FAILED || common == MAP_FAILED) {
    prove_fail(p, "no memory");
    return;
  }
  for (long r = 0; r < rounds; ++r) {
    uint64_t before = (uint64_t)(index * 1000 + r), after = before + 500000, childs = before + 900000;
    fill_words(own, before);
    common[0] = 0;
    pid_t pid = fork();
    if (pid == 0) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(p->cpu[(index + 1) % p->cpu_count], &set);
      sched_setaffinity(0, sizeof set, &set);
      bool right = all_words(own, before);
      fill_words(own, childs);
      right &= all_words(own, childs);
      common[0] = childs;
      _exit(right ? 33 : 44);
    }
    fill_words(own, after);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
      prove_fail(p, "fork: %s", strerror(errno));
      break;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 33) prove_fail(p, "the child saw the parent's later writes");
    if (!all_words(own, after)) prove_fail(p, "the parent saw the child's writes");
    if (common[0] != childs) prove_fail(p, "the shared page does not show the child's write");
  }
  munmap(own, kCowPages * kPageSize);
  munmap(common, kPageSize);
}

bool check_copy_on_write(Prove* p) {
  long rounds = 4 * p->scale;
  if (!prove_on_all_cpus(p, cow_worker, &rounds)) return false;
  prove_note(p, "%ld forks from each vCPU, %d pages written on both sides", rounds, kCowPages);
  return true;
}

typedef struct {
  int ends[2];
  size_t bytes;
} Stream;

static void stream_worker(Prove* p, int index, void* shared) {
  Stream* s = shared;
  uint8_t buffer[3000];
  for (size_t done = 0; done < s->bytes;) {
    size_t want = s->bytes - done < sizeof buffer ? s->bytes - done : sizeof buffer;
    ssize_t got;
    if (index == 0) {
      for (size_t i = 0; i < want; ++i) buffer[i] = (uint8_t)prove_mix(done + i);
      got = write(s->ends[1], buffer, want);
    } else {
      got = read(s->ends[0], buffer, want);
      for (ssize_t i = 0; i < got; ++i) {
        if (buffer[i] == (uint8_t)prove_mix(done + (size_t)i)) continue;
        prove_fail(p, "byte %zu of the stream is wrong", done + (size_t)i);
        break;
      }
    }
    if (got <= 0) {
      prove_fail(p, "the pipe ended after %zu bytes", done);
      return;
    }
    done += (size_t)got;
  }
}

bool check_pipe_stream(Prove* p) {
  Stream s = {.bytes = 96 * 1024 * (size_t)p->scale};
  if (pipe(s.ends) != 0) return prove_fail(p, "pipe: %s", strerror(errno));
  bool ok = prove_on_pair(p, 0, p->cpu_count - 1, stream_worker, &s);
  close(s.ends[0]);
  close(s.ends[1]);
  prove_note(p, "%zu bytes from the first vCPU to the last", s.bytes);
  return ok;
}
