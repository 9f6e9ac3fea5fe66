// prove: shows that all vCPUs of the machine compute, correctly, on one memory.
//
//   prove [-s SCALE] [-t SECONDS] [-l] [CHECK...]
//
// Prints `prove: NAME ok|FAIL detail` for each check and `prove: N passed, N failed` at the end. Exit status 0 when
// all passed, 1 when any failed, 2 for a usage error.
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "images/guest/cpus.h"
#include "prove.h"

static bool check_placement(Prove* p);

static const struct {
  const char* name;
  ProveCheck run;
} kChecks[] = {
    {"placement", check_placement},
    {"atomic-add", check_atomic_add},
    {"atomic-kinds", check_atomic_kinds},
    {"atomic-split", check_atomic_split},
    {"futex-ping-pong", check_futex_ping_pong},
    {"mutex-structure", check_mutex_structure},
    {"condition-queue", check_condition_queue},
    {"litmus-message", check_litmus_message},
    {"litmus-store-buffer", check_litmus_store_buffer},
    {"litmus-load-buffer", check_litmus_load_buffer},
    {"litmus-iriw", check_litmus_iriw},
    {"matrix", check_matrix},
    {"memory-relay", check_memory_relay},
    {"page-fault-storm", check_page_fault_storm},
    {"false-sharing", check_false_sharing},
    {"unmap-shootdown", check_unmap_shootdown},
    {"protect-shootdown", check_protect_shootdown},
    {"map-storm", check_map_storm},
    {"protection-keys", check_protection_keys},
    {"fork-exec", check_fork_exec},
    {"copy-on-write", check_copy_on_write},
    {"pipe-stream", check_pipe_stream},
    {"signal-ring", check_signal_ring},
    {"signal-values", check_signal_values},
    {"migration", check_migration},
    {"clock", check_clock},
    {"code", check_code},
};
enum { kCheckCount = sizeof(kChecks) / sizeof(kChecks[0]) };

static const char* volatile running_check = "start";

bool prove_fail(Prove* p, const char* format, ...) {
  pthread_mutex_lock(&p->lock);
  if (!p->failed) {
    p->failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(p->detail, sizeof p->detail, format, args);
    va_end(args);
  }
  pthread_mutex_unlock(&p->lock);
  return false;
}

void prove_note(Prove* p, const char* format, ...) {
  if (p->failed) return;
  va_list args;
  va_start(args, format);
  vsnprintf(p->detail, sizeof p->detail, format, args);
  va_end(args);
}

uint64_t prove_mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

void prove_futex_wait(atomic_uint* word, unsigned seen) {
  while (atomic_load(word) == seen) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

void prove_futex_wake(atomic_uint* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

bool prove_pin(Prove* p, int index) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(p->cpu[index], &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) {
    return prove_fail(p, "cannot move to cpu %d: %s", p->cpu[index], strerror(errno));
  }
  int here = sched_getcpu();
  if (here != p->cpu[index]) return prove_fail(p, "pinned to cpu %d but runs on cpu %d", p->cpu[index], here);
  return true;
}

typedef struct {
  Prove* prove;
  ProveWorker worker;
  void* shared;
  int index, place;
} Start;

static void* start_worker(void* argument) {
  Start* start = argument;
  // A worker that could not be placed still runs: the others may wait for it at a barrier, and the check has failed.
  prove_pin(start->prove, start->place);
  start->worker(start->prove, start->index, start->shared);
  return NULL;
}

static bool run_workers(Prove* p, const int* places, int count, ProveWorker worker, void* shared) {
  pthread_t threads[kMaxCpus];
  Start starts[kMaxCpus];
  for (int i = 0; i < count; ++i) {
    starts[i] = (Start){p, worker, shared, i, places[i]};
    if (pthread_create(&threads[i], NULL, start_worker, &starts[i]) != 0) {
      printf("prove: cannot start thread %d\n", i);
      exit(1);
    }
  }
  for (int i = 0; i < count; ++i) pthread_join(threads[i], NULL);
  return !p->failed;
}

bool prove_on_all_cpus(Prove* p, ProveWorker worker, void* shared) {
  int places[kMaxCpus];
  for (int i = 0; i < p->cpu_count; ++i) places[i] = i;
  return run_workers(p, places, p->cpu_count, worker, shared);
}

bool prove_on_pair(Prove* p, int a, int b, ProveWorker worker, void* shared) {
  int places[2] = {a, b};
  return run_workers(p, places, 2, worker, shared);
}

typedef struct {
  atomic_uint seen_cpus[kMaxCpus];
  unsigned node[kMaxCpus];
} Placement;

static void placement_worker(Prove* p, int index, void* shared) {
  Placement* placement = shared;
  unsigned cpu = 0, node = 0;
  syscall(SYS_getcpu, &cpu, &node, NULL);
  if ((int)cpu != p->cpu[index]) prove_fail(p, "worker %d runs on cpu %u", index, cpu);
  placement->node[index] = node;
  atomic_fetch_add(&placement->seen_cpus[cpu % kMaxCpus], 1);
}

static bool check_placement(Prove* p) {
  static Placement placement;
  if (!prove_on_all_cpus(p, placement_worker, &placement)) return false;
  unsigned nodes_seen[kMaxCpus] = {0};
  int nodes = 0;
  for (int i = 0; i < p->cpu_count; ++i) {
    if (atomic_load(&placement.seen_cpus[p->cpu[i] % kMaxCpus]) != 1) return prove_fail(p, "cpu %d idle", p->cpu[i]);
    p->node[i] = (int)placement.node[i];
    if (nodes_seen[placement.node[i] % kMaxCpus]++ == 0) ++nodes;
  }
  prove_note(p, "%d vCPUs on %d NUMA nodes", p->cpu_count, nodes);
  return true;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void on_alarm(int signal_number) {
  (void)signal_number;
  static const char before[] = "prove: ", after[] = " FAIL no end in sight: gave up\n";
  (void)!write(1, before, sizeof before - 1);
  (void)!write(1, running_check, strlen(running_check));
  (void)!write(1, after, sizeof after - 1);
  _exit(1);
}

static bool selected(const char* name, char** names, int count) {
  if (count == 0) return true;
  for (int i = 0; i < count; ++i) {
    if (strcmp(names[i], name) == 0) return true;
  }
  return false;
}

static int usage(const char* why) {
  fprintf(stderr, "prove: %s\nusage: prove [-s SCALE] [-t SECONDS per check] [-l] [CHECK...]\n", why);
  return 2;
}

static int run_checks(Prove* p, char** names, int name_count, unsigned limit_s) {
  int passed = 0, failed = 0;
  for (int i = 0; i < kCheckCount; ++i) {
    if (!selected(kChecks[i].name, names, name_count)) continue;
    p->failed = false;
    p->detail[0] = '\0';
    running_check = kChecks[i].name;
    alarm(limit_s);
    double start = now_ms();
    bool ok = kChecks[i].run(p) && !p->failed;
    double spent = now_ms() - start;
    alarm(0);
    printf("prove: %s %s %s (%.1f ms)\n", kChecks[i].name, ok ? "ok" : "FAIL", p->detail, spent);
    *(ok ? &passed : &failed) += 1;
  }
  printf("prove: %d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "--child") == 0) return prove_child(argv[2]);
  static Prove prove = {.lock = PTHREAD_MUTEX_INITIALIZER, .scale = 1, .self = "/proc/self/exe"};
  unsigned limit_s = 120;
  int option;
  while ((option = getopt(argc, argv, "s:t:l")) != -1) {
    if (option == 's') {
      prove.scale = atol(optarg);
    } else if (option == 't') {
      limit_s = (unsigned)atol(optarg);
    } else if (option == 'l') {
      for (int i = 0; i < kCheckCount; ++i) puts(kChecks[i].name);
      return 0;
    } else {
      return usage("unknown option");
    }
  }
  if (prove.scale < 1 || prove.scale > 100000) return usage("SCALE is 1 to 100000");
  for (int i = optind; i < argc; ++i) {
    bool known = false;
    for (int c = 0; c < kCheckCount; ++c) known |= strcmp(argv[i], kChecks[c].name) == 0;
    if (!known) return usage("no such check (-l lists them)");
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGALRM, on_alarm);
  prove.cpu_count = usable_cpus(prove.cpu, kMaxCpus);
  return run_checks(&prove, argv + optind, argc - optind, limit_s);
}
