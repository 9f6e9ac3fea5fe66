// Signals between threads on different vCPUs: each must arrive once, at the right thread.
#define _GNU_SOURCE
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "prove.h"

typedef struct {
  pthread_t thread[kMaxCpus];
  sem_t arrived[kMaxCpus];
  atomic_int count[kMaxCpus];
  atomic_int stray;
  pthread_barrier_t barrier;
  long rounds;
} Ring;

static Ring ring;
static __thread int ring_index = -1;

static void on_signal(int number) {
  (void)number;
  int saved = errno;
  if (ring_index < 0) {
    atomic_fetch_add(&ring.stray, 1);
  } else {
    atomic_fetch_add(&ring.count[ring_index], 1);
    sem_post(&ring.arrived[ring_index]);
  }
  errno = saved;
}

static void ring_worker(Prove* p, int index, void* shared) {
  Ring* s = shared;
  ring_index = index;
  s->thread[index] = pthread_self();
  pthread_barrier_wait(&s->barrier);
  for (long r = 0; r < s->rounds; ++r) {
    // A new signal is sent only after the last one was taken: standard signals do not queue.
    if (pthread_kill(s->thread[(index + 1) % p->cpu_count], SIGUSR1) != 0) prove_fail(p, "pthread_kill failed");
    while (sem_wait(&s->arrived[index]) != 0) continue;
    pthread_barrier_wait(&s->barrier);
  }
  if (atomic_load(&s->count[index]) != s->rounds) {
    prove_fail(p, "worker %d got %d signals, want %ld", index, atomic_load(&s->count[index]), s->rounds);
  }
  pthread_barrier_wait(&s->barrier);
  ring_index = -1;
}

bool check_signal_ring(Prove* p) {
  ring.rounds = 40 * p->scale;
  atomic_store(&ring.stray, 0);
  for (int i = 0; i < p->cpu_count; ++i) {
    sem_init(&ring.arrived[i], 0, 0);
    atomic_store(&ring.count[i], 0);
  }
  pthread_barrier_init(&ring.barrier, NULL, (unsigned)p->cpu_count);
  struct sigaction action = {.sa_handler = on_signal}, before;
  sigaction(SIGUSR1, &action, &before);
  bool ok = prove_on_all_cpus(p, ring_worker, &ring);
  sigaction(SIGUSR1, &before, NULL);
  pthread_barrier_destroy(&ring.barrier);
  if (atomic_load(&ring.stray) != 0) return prove_fail(p, "a signal hit a thread it was not sent to");
  prove_note(p, "%ld signals from each vCPU to the next", ring.rounds);
  return ok;
}

typedef struct {
  pthread_t receiver;
  pthread_barrier_t ready;
  int count;
} Values;

// Worker 0 queues real-time signals that carry numbers; worker 1 takes them synchronously, in order.
static void values_worker(Prove* p, int index, void* shared) {
  Values* s = shared;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  if (index == 1) {
    s->receiver = pthread_self();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
  }
  pthread_barrier_wait(&s->ready);
  for (int i = 0; i < s->count; ++i) {
    if (index == 0) {
      union sigval value = {.sival_int = i * 3 + 1};
      int error;
      while ((error = pthread_sigqueue(s->receiver, SIGRTMIN, value)) == EAGAIN) usleep(1000);
      if (error != 0) prove_fail(p, "pthread_sigqueue: %s", strerror(error));
      continue;
    }
    siginfo_t info;
    struct timespec limit = {.tv_sec = 30};
    int got;
    while ((got = sigtimedwait(&set, &info, &limit)) < 0 && errno == EINTR) continue;
    if (got != SIGRTMIN || info.si_value.sival_int != i * 3 + 1) {
      prove_fail(p, "signal %d carries %d", i, got == SIGRTMIN ? info.si_value.sival_int : -1);
      break;
    }
  }
  pthread_barrier_wait(&s->ready);
}

bool check_signal_values(Prove* p) {
  Values s = {.count = (int)(100 * p->scale)};
  pthread_barrier_init(&s.ready, NULL, 2);
  bool ok = prove_on_pair(p, 0, p->cpu_count - 1, values_worker, &s);
  pthread_barrier_destroy(&s.ready);
  prove_note(p, "%d queued signals with values, in order", s.count);
  return ok;
}
