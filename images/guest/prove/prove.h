// The frame of the proof program: one context, one table of checks, one thread per vCPU.
//
// A check is a function that returns true when every result it computed is right. It starts its workers with
// prove_on_all_cpus(), which pins worker i to the i-th online vCPU, so that on a machine of several nodes the work
// really is on several nodes. Nothing here spins on a shared line: a page that travels between nodes costs a network
// round trip, and a spinning reader would steal it from the writer it waits for. Waiting is always in the kernel.
#ifndef IMAGES_GUEST_PROVE_PROVE_H_
#define IMAGES_GUEST_PROVE_PROVE_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { kMaxCpus = 64, kPageSize = 4096 };

typedef struct {
  int cpu_count;
  int cpu[kMaxCpus];   // kernel's CPU numbers
  int node[kMaxCpus];  // NUMA node of each, as the kernel tells it
  long scale;          // multiplies the work of every check; 1 by default
  const char* self;    // path to execute for a child of this same program
  pthread_mutex_t lock;
  bool failed;       // the current check has failed
  char detail[200];  // why it failed (the first reason), or what it did
} Prove;

typedef bool (*ProveCheck)(Prove* p);
typedef void (*ProveWorker)(Prove* p, int index, void* shared);

// Records why the current check fails (the first reason wins) from any thread; returns false.
bool prove_fail(Prove* p, const char* format, ...) __attribute__((format(printf, 2, 3)));
// Says what a check that passes has done.
void prove_note(Prove* p, const char* format, ...) __attribute__((format(printf, 2, 3)));
// Moves the calling thread to the index-th vCPU and returns once it runs there.
bool prove_pin(Prove* p, int index);
// Runs `worker` on each vCPU in a thread of its own and waits for all; false when any has failed.
bool prove_on_all_cpus(Prove* p, ProveWorker worker, void* shared);
// Runs two workers (index 0 and 1) on the vCPUs a and b.
bool prove_on_pair(Prove* p, int a, int b, ProveWorker worker, void* shared);
// A 64-bit mix (splitmix64 finaliser): the reproducible data of all checks.
uint64_t prove_mix(uint64_t x);
// Sleeps in the kernel until *word differs from `seen`; wakes all sleepers of `word`.
void prove_futex_wait(atomic_uint* word, unsigned seen);
void prove_futex_wake(atomic_uint* word);

// atomics.c
bool check_atomic_add(Prove* p);
bool check_atomic_kinds(Prove* p);
bool check_atomic_split(Prove* p);
// locks.c
bool check_futex_ping_pong(Prove* p);
bool check_mutex_structure(Prove* p);
bool check_condition_queue(Prove* p);
// litmus.c
bool check_litmus_message(Prove* p);
bool check_litmus_store_buffer(Prove* p);
bool check_litmus_load_buffer(Prove* p);
bool check_litmus_iriw(Prove* p);
// matrix.c
bool check_matrix(Prove* p);
// memory.c
bool check_memory_relay(Prove* p);
bool check_page_fault_storm(Prove* p);
bool check_false_sharing(Prove* p);
// mapping.c
bool check_unmap_shootdown(Prove* p);
bool check_protect_shootdown(Prove* p);
bool check_map_storm(Prove* p);
// keys.c
bool check_protection_keys(Prove* p);
// process.c
bool check_fork_exec(Prove* p);
bool check_copy_on_write(Prove* p);
bool check_pipe_stream(Prove* p);
int prove_child(const char* argument);
// signals.c
bool check_signal_ring(Prove* p);
bool check_signal_values(Prove* p);
// travel.c
bool check_migration(Prove* p);
bool check_clock(Prove* p);
bool check_code(Prove* p);

#endif  // IMAGES_GUEST_PROVE_PROVE_H_
