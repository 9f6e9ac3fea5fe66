// The threads that run the tests, pinned to vCPUs of one node or of several.
#ifndef IMAGES_GUEST_LITMUS_TEAM_H_
#define IMAGES_GUEST_LITMUS_TEAM_H_

#include "images/guest/litmus/litmus.h"

typedef enum { kOneNode, kNodes, kNodesPaired, kSpreads } Spread;
typedef struct Team Team;

// Starts kThreadsMax threads; null when there are too few vCPUs (two on one node) or nodes (two) for `spread`.
Team* team_start(Spread spread);
Tally team_run(Team* team, const Variant* v, const Area* area);
void team_end(Team* team);

#endif  // IMAGES_GUEST_LITMUS_TEAM_H_
