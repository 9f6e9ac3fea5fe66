// litmus [-r RUNS] [-m RUNS] [-t SECONDS] [-w WIDTHS] [-p PLACES] [-f FENCES] [-n one|several|all] [TEST...]
//
// Runs every variant of the tests of x86-TSO with threads on vCPUs of one node (RUNS cells each) and on vCPUs of
// several nodes (-m; as many as -r by default). Split LOCKs run a hundredth of that, and so does what lies across two
// pages on several nodes. Prints for each
//   litmus: TEST+FENCE PLACE/BYTES WHERE runs N allowed-relaxed K forbidden F [torn T] ok|FAIL
// and at the end `litmus: N passed, N failed`. WHERE is one-node, nodes (thread i on node i modulo their number) or
// nodes-paired (two threads on each). Exit status 0 when nothing forbidden was seen, and store buffering was where two
// vCPUs of one node ran it plainly; 1 otherwise; 2 for a usage error. Lists are of numbers or names with commas
// between.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/guest/litmus/litmus.h"
#include "images/guest/litmus/team.h"

enum {
  kDearShare = 100,       // what is dear runs a hundredth of what is asked for
  kBufferingRuns = 30000  // of each plain SB on one node at least: there something must be seen
};

static const char* const kFenceNames[kFences] = {"plain", "mfence", "lock"};
static const char* const kPlaceNames[kPlaces] = {"line", "lines", "pages", "split-line", "split-page"};
static const char* const kWidthNames[kWidths] = {"1", "2", "4", "8", "16"};
static const char* const kSpreadNames[kSpreads] = {"one-node", "nodes", "nodes-paired"};

typedef struct {
  long runs_one, runs_several;
  unsigned limit_s, fences, places, widths, spreads;  // bit masks
  char** tests;
  int test_count;
} Options;

typedef struct {
  long passed, failed, buffered, buffering_runs;
} Sum;

static char running[100] = "start";

static void on_alarm(int signal_number) {
  (void)signal_number;
  static const char before[] = "litmus: ", after[] = " FAIL no end in sight: gave up\n";
  (void)!write(1, before, sizeof before - 1);
  (void)!write(1, running, strlen(running));
  (void)!write(1, after, sizeof after - 1);
  _exit(1);
}

static int usage(const char* why) {
  fprintf(stderr,
          "litmus: %s\nusage: litmus [-r RUNS] [-m RUNS on several nodes] [-t SECONDS per variant] [-w 1,2,4,8,16]\n"
          "  [-p line,lines,pages,split-line,split-page] [-f plain,mfence,lock] [-n one|several|all] [TEST...]\n",
          why);
  return 2;
}

// The names in `list` as a mask; 0 when one of them is none of `names`.
static unsigned mask_of(char* list, const char* const* names, unsigned count) {
  unsigned mask = 0;
  for (char* word = strtok(list, ","); word; word = strtok(NULL, ",")) {
    unsigned i = 0;
    while (i < count && strcmp(names[i], word) != 0) ++i;
    if (i == count) return 0;
    mask |= 1u << i;
  }
  return mask;
}

static bool wanted(const Options* o, const Variant* v, Spread spread) {
  bool named = o->test_count == 0;
  for (int i = 0; i < o->test_count; ++i) named |= strcmp(o->tests[i], v->test->name) == 0;
  return named && (o->fences >> v->fence & 1) && (o->places >> v->place & 1) && (o->widths >> v->width & 1) &&
         (spread != kNodesPaired || v->test->threads > 2) && (v->several_nodes ? o->runs_several : o->runs_one) > 0;
}

// A LOCK across two lines stops every processor of the host, and many hosts make whoever does that wait besides. A cell
// across two pages has its pages for itself: all of them move between the nodes, several times for each run.
static bool dear(const Variant* v) {
  return (v->fence == kLock && is_split(v->place)) || (v->several_nodes && v->place == kSplitPage);
}

static void run_variant(const Options* o, Team* team, Variant v, Spread spread, Sum* sum) {
  Area area;
  if (!wanted(o, &v, spread) || !area_of(&v, &area)) return;
  bool unaligned = is_split(v.place);
  for (unsigned t = 0; t < v.test->threads; ++t) {
    if (!step_of(v.test->kind[t], v.width, v.fence, unaligned)) return;
  }
  snprintf(running, sizeof running, "%s+%s %s/%s %s", v.test->name, kFenceNames[v.fence], kPlaceNames[v.place],
           kWidthNames[v.width], kSpreadNames[spread]);
  v.runs = v.several_nodes ? o->runs_several : o->runs_one;
  const bool must_buffer = spread == kOneNode && v.fence == kPlain && strcmp(v.test->name, "SB") == 0;
  if (must_buffer && v.runs < kBufferingRuns) v.runs = kBufferingRuns;
  if (dear(&v)) v.runs = (v.runs + kDearShare - 1) / kDearShare;
  alarm(o->limit_s);
  Tally tally = team_run(team, &v, &area);
  alarm(0);
  bool ok = tally.forbidden == 0;
  printf("litmus: %s runs %ld allowed-relaxed %ld forbidden %ld", running, tally.runs, tally.relaxed, tally.forbidden);
  if (tally.torn) printf(" torn %ld", tally.torn);
  printf(ok ? " ok\n" : " FAIL %s\n", tally.detail);
  *(ok ? &sum->passed : &sum->failed) += 1;
  if (must_buffer) {
    sum->buffered += tally.relaxed;
    sum->buffering_runs += tally.runs;
  }
}

static void run_spread(const Options* o, Spread spread, Sum* sum) {
  Team* team = team_start(spread);
  if (!team) {
    printf("litmus: %s skipped: not enough vCPUs\n", kSpreadNames[spread]);
    return;
  }
  for (unsigned test = 0; test < kTestCount; ++test) {
    for (Fence fence = 0; fence < kFences; ++fence) {
      for (Place place = 0; place < kPlaces; ++place) {
        for (Width width = 0; width < kWidths; ++width) {
          Variant v = {&kTests[test], fence, width, place, spread != kOneNode, 0};
          run_variant(o, team, v, spread, sum);
        }
      }
    }
  }
  team_end(team);
}

int main(int argc, char** argv) {
  static const char* const kWhere[] = {"one", "several", "all"};
  Options o = {.runs_one = 100000, .runs_several = -1, .limit_s = 600};
  o.fences = o.places = o.widths = o.spreads = ~0u;
  int option;
  while ((option = getopt(argc, argv, "r:m:t:w:p:f:n:")) != -1) {
    switch (option) {
      case 'r': o.runs_one = atol(optarg); break;
      case 'm': o.runs_several = atol(optarg); break;
      case 't': o.limit_s = (unsigned)atol(optarg); break;
      case 'w': o.widths = mask_of(optarg, kWidthNames, kWidths); break;
      case 'p': o.places = mask_of(optarg, kPlaceNames, kPlaces); break;
      case 'f': o.fences = mask_of(optarg, kFenceNames, kFences); break;
      case 'n': o.spreads = mask_of(optarg, kWhere, 3); break;
      default: return usage("unknown option");
    }
  }
  if (!o.fences || !o.places || !o.widths || !o.spreads) return usage("no such name in a list");
  if (o.spreads & 4) o.spreads = 7;
  if (o.spreads & 2) o.spreads |= 4;
  if (o.runs_several < 0) o.runs_several = o.runs_one;
  o.tests = argv + optind;
  o.test_count = argc - optind;
  for (int i = 0; i < o.test_count; ++i) {
    bool known = false;
    for (unsigned t = 0; t < kTestCount; ++t) known |= strcmp(o.tests[i], kTests[t].name) == 0;
    if (!known) return usage("no such test");
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGALRM, on_alarm);
  if (!make_areas()) {
    printf("litmus: FAIL no memory\n");
    return 1;
  }
  Sum sum = {0};
  for (Spread spread = 0; spread < kSpreads; ++spread) {
    if (o.spreads >> spread & 1) run_spread(&o, spread, &sum);
  }
  if (sum.buffering_runs) {
    bool ok = sum.buffered > 0;
    printf("litmus: store buffering seen %ld times in %ld runs on one node %s\n", sum.buffered, sum.buffering_runs,
           ok ? "ok" : "FAIL");
    *(ok ? &sum.passed : &sum.failed) += 1;
  }
  printf("litmus: %ld passed, %ld failed\n", sum.passed, sum.failed);
  return sum.failed == 0 && sum.passed > 0 ? 0 : 1;
}
