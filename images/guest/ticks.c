// ticks [-t SECONDS] [-a SECONDS]: time as the vCPUs see it.
//
// Threads on all vCPUs hand times to each other through shared memory for SECONDS (10) in each of five ways; whoever
// receives one must not read an earlier one afterwards: LFENCE keeps RDTSC behind the load, RDTSCP waits for it by
// itself (SDM vol. 2B), and so does the kernel's clock. In the last way, which takes the seconds of -a if it is given,
// the threads mostly sleep, and every 100 ms the wall clock goes to the console as `ticks: date SECONDS.NANOSECONDS`,
// so that the host can compare clocks. Then the kernel's own opinion: its clock source must be `tsc`, and its log
// without complaints about clocks. Prints `ticks: NAME ok|FAIL detail` for each, exit status 1 when one failed, 2 for a
// usage error.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

#include "images/guest/cpus.h"

enum { kMaxCpus = 64, kPageSize = 4096, kLogBytes = 1 << 20 };

typedef uint64_t (*Reading)(void);

typedef struct {
  _Alignas(kPageSize) atomic_ullong time;
} Mailbox;

typedef struct {
  _Alignas(kPageSize) atomic_ullong latest;
  Mailbox box[kMaxCpus];  // one for each thread, each on a page of its own
  _Alignas(kPageSize) Reading read;
  bool boxes, sleepy;
  double seconds;
  int threads, cpu[kMaxCpus];
  _Alignas(kPageSize) atomic_ullong count, back, worst, wrong_cpu;
} Run;

static Run run;

static uint64_t read_tsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence\n rdtsc\n lfence" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
}

// IA32_TSC_AUX holds the CPU's number in its low 12 bits: Linux's convention, and the thread is pinned.
static uint64_t read_tscp(void) {
  uint32_t low, high, aux;
  __asm__ volatile("rdtscp\n lfence" : "=a"(low), "=d"(high), "=c"(aux) : : "memory");
  if ((int)(aux & 0xfff) != sched_getcpu()) atomic_fetch_add(&run.wrong_cpu, 1);
  return (uint64_t)high << 32 | low;
}

static uint64_t read_clock(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static uint64_t read_monotonic(void) { return read_clock(CLOCK_MONOTONIC); }

static void note_back(uint64_t by) {
  atomic_fetch_add(&run.back, 1);
  unsigned long long worst = atomic_load(&run.worst);
  while (worst < by && !atomic_compare_exchange_weak(&run.worst, &worst, by)) continue;
}

// One word holds the latest time that anyone has read.
static void hand_over(uint64_t* own) {
  unsigned long long seen = atomic_load(&run.latest);
  const uint64_t now = run.read();
  if (now < seen) note_back(seen - now);
  if (now < *own) note_back(*own - now);
  *own = now;
  while (seen < now && !atomic_compare_exchange_weak(&run.latest, &seen, now)) continue;
}

// Each thread publishes its time on a page of its own by a plain store, and reads everybody's.
static void exchange(int index, uint64_t* own) {
  for (int i = 0; i < run.threads; ++i) {
    const uint64_t seen = atomic_load_explicit(&run.box[i].time, memory_order_acquire);
    const uint64_t now = run.read();
    if (now < seen) note_back(seen - now);
    if (now < *own) note_back(*own - now);
    *own = now;
    atomic_store_explicit(&run.box[index].time, now, memory_order_release);
  }
}

static void* worker(void* argument) {
  const int index = (int)(intptr_t)argument;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(run.cpu[index], &set);
  sched_setaffinity(0, sizeof set, &set);
  const uint64_t end = read_monotonic() + (uint64_t)(run.seconds * 1e9);
  uint64_t own = 0, rounds = 0;
  for (; read_monotonic() < end; ++rounds) {
    if (run.boxes) {
      exchange(index, &own);
    } else {
      hand_over(&own);
    }
    // Lets the others have the page for a moment: different lengths for different phases.
    for (volatile unsigned i = 0; i < (rounds * 37 + (unsigned)index * 11) % 200; ++i) continue;
    if (run.sleepy) {
      if (index == 0) {
        const uint64_t date = read_clock(CLOCK_REALTIME);
        printf("ticks: date %lu.%09lu\n", date / 1000000000, date % 1000000000);
      }
      usleep(100000);
    }
  }
  atomic_fetch_add(&run.count, rounds);
  return NULL;
}

static bool check(const char* name, Reading read, bool boxes, bool sleepy, double seconds) {
  pthread_t threads[kMaxCpus];
  run.read = read, run.boxes = boxes, run.sleepy = sleepy, run.seconds = seconds;
  atomic_store(&run.latest, 0);
  atomic_store(&run.count, 0), atomic_store(&run.back, 0), atomic_store(&run.worst, 0);
  for (int i = 0; i < run.threads; ++i) atomic_store(&run.box[i].time, 0);
  for (int i = 0; i < run.threads; ++i) {
    if (pthread_create(&threads[i], NULL, worker, (void*)(intptr_t)i) != 0) exit(1);
  }
  for (int i = 0; i < run.threads; ++i) pthread_join(threads[i], NULL);
  const bool ok = run.back == 0 && run.wrong_cpu == 0 && run.count > 0;
  printf("ticks: %s %s %llu rounds on %d vCPUs, back %llu times, at most by %llu, TSC_AUX wrong %llu times\n", name,
         ok ? "ok" : "FAIL", run.count, run.threads, run.back, run.worst, run.wrong_cpu);
  return ok;
}

static bool check_source(void) {
  char name[32] = "";
  FILE* file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
  if (file) {
    if (!fgets(name, sizeof name, file)) name[0] = '\0';
    fclose(file);
  }
  name[strcspn(name, "\n")] = '\0';
  const bool ok = strcmp(name, "tsc") == 0;
  printf("ticks: clocksource %s %s\n", ok ? "ok" : "FAIL", name);
  return ok;
}

static bool check_log(void) {
  static const char* const kComplaints[] = {"unstable", "skew",          "warp",      "watchdog", "soft lockup",
                                            "stall",    "took too long", "hung task", "BUG:"};
  char* log = malloc(kLogBytes + 1);
  const int bytes = klogctl(3, log, kLogBytes);  // SYSLOG_ACTION_READ_ALL
  if (bytes <= 0) {
    printf("ticks: log FAIL cannot be read\n");
    return false;
  }
  log[bytes] = '\0';
  int complaints = 0;
  for (char* line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
    bool bad = false;
    for (unsigned i = 0; i < sizeof kComplaints / sizeof kComplaints[0]; ++i)
      bad |= strstr(line, kComplaints[i]) != NULL;
    // That the NMI watchdog is off, and what the command line says, are no complaints.
    if (!bad || strstr(line, "NMI") || strstr(line, "ommand line")) continue;
    printf("ticks: the kernel says: %s\n", line);
    ++complaints;
  }
  printf("ticks: log %s %d complaints\n", complaints ? "FAIL" : "ok", complaints);
  free(log);
  return complaints == 0;
}

int main(int argc, char** argv) {
  double seconds = 10;
  int option;
  double asleep = -1;
  while ((option = getopt(argc, argv, "t:a:")) != -1) {
    if (option == 't') seconds = atof(optarg);
    if (option == 'a') asleep = atof(optarg);
    if (option == '?' || seconds <= 0) {
      fprintf(stderr, "usage: ticks [-t SECONDS] [-a SECONDS for the last way]\n");
      return 2;
    }
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  run.threads = usable_cpus(run.cpu, kMaxCpus);
  bool ok = check("tsc", read_tsc, false, false, seconds);
  ok &= check("tscp", read_tscp, false, false, seconds);
  ok &= check("tscp-by-mailbox", read_tscp, true, false, seconds);
  ok &= check("clock", read_monotonic, false, false, seconds);
  ok &= check("asleep", read_tsc, true, true, asleep > 0 ? asleep : seconds);
  ok &= check_source();
  ok &= check_log();
  printf("ticks: %s\n", ok ? "passed" : "failed");
  return ok ? 0 : 1;
}
