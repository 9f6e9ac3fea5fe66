// Operating-system workloads: the paths through the kernel that programs feel.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

enum { kPage = 4096, kFaultPages = 64, kTouch = 8 };

static uint64_t run_getppid(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; ++i) sum += (uint64_t)syscall(SYS_getppid);
  return sum;
}

static void must(bool ok) {
  if (!ok) _exit(99);
}

static void stay_here(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(sched_getcpu(), &set);
  sched_setaffinity(0, sizeof set, &set);
}

static void roam(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// Two processes on one CPU hand a byte back and forth.
static uint64_t run_pipe(uint64_t n) {
  int there[2], back[2];
  must(pipe(there) == 0 && pipe(back) == 0);
  stay_here();
  pid_t pid = fork();
  must(pid >= 0);
  char byte = 7;
  if (pid == 0) {
    for (uint64_t i = 0; i < n; ++i) must(read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1);
    _exit(0);
  }
  for (uint64_t i = 0; i < n; ++i) must(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
  int status;
  must(waitpid(pid, &status, 0) == pid && status == 0);
  for (int i = 0; i < 2; ++i) {
    close(there[i]);
    close(back[i]);
  }
  roam();
  return (uint64_t)byte;
}

static uint64_t run_fork(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; ++i) {
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) _exit((int)(i & 0x7f));
    int status;
    must(waitpid(pid, &status, 0) == pid);
    sum += (uint64_t)WEXITSTATUS(status);
  }
  return sum;
}

static uint64_t run_exec(uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
      char* arguments[] = {(char*)"measure", (char*)"--child", NULL};
      execv("/proc/self/exe", arguments);
      _exit(98);
    }
    int status;
    must(waitpid(pid, &status, 0) == pid && status == 0);
  }
  return n;
}

// One operation is the first write to one fresh page; the mapping's own cost is spread over kFaultPages of them.
static uint64_t run_fault(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t done = 0; done < n;) {
    uint8_t* base = mmap(NULL, kFaultPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(base != MAP_FAILED);
    for (uint64_t i = 0; i < kFaultPages && done < n; ++i, ++done) base[i * kPage] = (uint8_t)++sum;
    munmap(base, kFaultPages * kPage);
  }
  return sum;
}

static uint64_t run_mmap(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; ++i) {
    uint8_t* base = mmap(NULL, kTouch * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(base != MAP_FAILED);
    base[0] = (uint8_t)i;
    sum += base[0];
    must(mprotect(base, kTouch * kPage, PROT_READ) == 0);
    munmap(base, kTouch * kPage);
  }
  return sum;
}

static void* yield_worker(void* argument) {
  uint64_t n = *(const uint64_t*)argument;
  for (uint64_t i = 0; i < n; ++i) sched_yield();
  return NULL;
}

// Two threads on one CPU yield to each other.
static uint64_t run_switch(uint64_t n) {
  stay_here();
  pthread_t thread;
  must(pthread_create(&thread, NULL, yield_worker, &n) == 0);
  yield_worker(&n);
  pthread_join(thread, NULL);
  roam();
  return n;
}

static volatile sig_atomic_t signals_seen;
static void on_signal(int number) { signals_seen = signals_seen + (number != 0); }

static uint64_t run_signal(uint64_t n) {
  signal(SIGUSR1, on_signal);
  for (uint64_t i = 0; i < n; ++i) raise(SIGUSR1);
  return (uint64_t)signals_seen;
}

const Workload kOsWorkloads[] = {
    {"getppid", "os", NULL, run_getppid, NULL, NULL},  {"pipe", "os", NULL, run_pipe, NULL, NULL},
    {"fork-wait", "os", NULL, run_fork, NULL, NULL},   {"fork-exec", "more", NULL, run_exec, NULL, NULL},
    {"page-fault", "os", NULL, run_fault, NULL, NULL}, {"mmap", "more", NULL, run_mmap, NULL, NULL},
    {"switch", "more", NULL, run_switch, NULL, NULL},  {"signal", "more", NULL, run_signal, NULL, NULL},
};
const size_t kOsWorkloadCount = sizeof(kOsWorkloads) / sizeof(kOsWorkloads[0]);
