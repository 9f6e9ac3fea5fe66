// suspend [-n TIMES] [-s SECONDS]: suspends to RAM, TIMES (1) over, each time woken by the real-time clock after
// SECONDS (3), and looks at what is there afterwards: the CPUs that were online, `tsc` as clock source, a clock that
// has slept no longer than the machine and agrees with the real-time clock. Prints `suspend: N going to sleep` and
// `suspend: N ok|FAIL detail`, exit status 1 when one failed, 2 for a usage error.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { kTextBytes = 256 };
static const char kAlarm[] = "/sys/class/rtc/rtc0/wakealarm", kDate[] = "/sys/class/rtc/rtc0/since_epoch",
                  kOnline[] = "/sys/devices/system/cpu/online",
                  kSource[] = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

static void read_line(const char* path, char text[kTextBytes]) {
  FILE* file = fopen(path, "r");
  if (!file || !fgets(text, kTextBytes, file)) text[0] = '\0';
  if (file) fclose(file);
  text[strcspn(text, "\n")] = '\0';
}

/// 0, or the error's number.
static int put(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY);
  if (fd < 0) return errno;
  const int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
  close(fd);
  return error;
}

static double now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool once(int n, int seconds) {
  char before[kTextBytes], after[kTextBytes], source[kTextBytes], date[kTextBytes], wish[16];
  read_line(kOnline, before);
  snprintf(wish, sizeof wish, "+%d", seconds);
  put(kAlarm, "0");
  int error = put(kAlarm, wish);
  if (error) {
    printf("suspend: %d FAIL no alarm: %s\n", n, strerror(error));
    return false;
  }
  printf("suspend: %d going to sleep\n", n);
  const double boot = now(CLOCK_BOOTTIME), awake = now(CLOCK_MONOTONIC);
  error = put("/sys/power/state", "mem");
  const double slept = (now(CLOCK_BOOTTIME) - boot) - (now(CLOCK_MONOTONIC) - awake);
  read_line(kOnline, after);
  read_line(kSource, source);
  read_line(kDate, date);
  const double ahead = now(CLOCK_REALTIME) - atof(date);
  // A sleep that began just before its alarm is short, and what is measured has the noise of four clock readings.
  const bool ok = !error && strcmp(before, after) == 0 && strcmp(source, "tsc") == 0 && slept > -0.1 &&
                  slept < seconds + 2 && fabs(ahead - 0.5) < 2;
  printf(
      "suspend: %d %s %s; CPUs online %s, before %s; clock source %s; slept %.3f s, clock ahead of the RTC by %.3f s\n",
      n, ok ? "ok" : "FAIL", error ? strerror(error) : "woken", after, before, source, slept, ahead);
  return ok;
}

int main(int argc, char** argv) {
  int times = 1, seconds = 3, option;
  while ((option = getopt(argc, argv, "n:s:")) != -1) {
    if (option == 'n') times = atoi(optarg);
    if (option == 's') seconds = atoi(optarg);
    if (option == '?' || times < 1 || seconds < 1) {
      fprintf(stderr, "usage: suspend [-n TIMES] [-s SECONDS]\n");
      return 2;
    }
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  bool ok = true;
  for (int n = 1; n <= times; ++n) ok &= once(n, seconds);
  return ok ? 0 : 1;
}
