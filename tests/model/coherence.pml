/* The coherence protocol of coherence/ as a Promela model: N nodes, P pages (page p has its home at node p), channels
 * that keep order between each pair of nodes and no order between pairs.
 *
 * It says what the code says, role by role (requester.cc, holder.cc, directory.cc, holds.cc), so that each branch here
 * can be read beside its branch there; check.py compares the states, events and transitions of both. Every condition for
 * which the code would refuse a message of a peer is an assertion here: among honest nodes there are none.
 *
 * Checked: one writer or several readers (single_writer); whoever gets a page gets the bytes of its last writer (D,
 * newest); no refusal; and when nothing can move any more, nobody waits (Monitor). Runs are finite, since there are
 * BUDGET requests and DROPS drops, so that last one is progress: every request is served on every path.
 *
 * Events of coherence/events.h: LocalRequest and DmaClaim (ASK), Message (HEAR), Surrendered (HAND_OVER), Drop (GIVE_BACK),
 * Retired, PeerLost (with -DLOSS). Tick does nothing here, there being no clock.
 *
 * With -DFRAMES=1 each node has room for one page. A node whose request waits for a frame gives pages up until it has one,
 * beside the DROPS that happen for no reason. Two pages and three nodes: room is always somewhere, so nobody may be left
 * waiting. What the code tries again after a pause is tried again here once there is room (may_offer).
 *
 * One agent per node holds what it waited for until it retires, and may wait for one page while it holds a lower one.
 * Holds do not expire here: that they end without a clock is part of what is shown. Requests without an agent are those
 * ahead of need. Bytes: D is the version whose bytes a frame holds, carried beside the protocol, which does not see it.
 */
#ifndef N
#define N 3
#endif
#ifndef P
#define P 2
#endif
#ifndef BUDGET
#define BUDGET 3
#endif
#ifndef DROPS
#define DROPS 1
#endif
#ifndef FRAMES
#define FRAMES 9 /* pages that a node may hold */
#endif
#define CAP 4

mtype:kind = { Request, Fetch, Invalidate, Grant, Ack, Done, Offer, Refuse };
mtype:want = { Read, Write, Claim };
mtype:payload = { None, Page, Zero };
mtype:order = { NoOrder, FetchOrder, InvalidateOrder, DropOrder };

#define I(n, p) ((n) * P + (p))
#define I_(from, to) ((from) * N + (to))
#define HOME(p) (p)
#define BIT(n) (1 << (n))
#define NOBODY 9
#define UNKNOWN 99 /* bytes that a claimer has not defined yet */

typedef Msg {
  mtype:kind kind;
  mtype:want want;
  mtype:payload payload;
  byte from, page, requester, version, nodes, data
};

/* this node's hold on each page */
byte R[N * P];      /* 0 Invalid, 1 Shared, 2 Modified */
bool source[N * P];
byte V[N * P];      /* version of the frame's bytes, as the protocol knows it */
byte D[N * P];      /* version whose bytes are in the frame */
/* requests under way */
bool asked[N * P], sent[N * P], granted[N * P], ended[N * P], wants_write[N * P];
mtype:want owant[N * P];
byte over[N * P], expected[N * P], acks[N * P];
bool reader[N * P], writer[N * P];
/* orders under way */
mtype:order ord[N * P];
bool deferred[N * P], discard[N * P];
byte keep[N * P];
Msg omsg[N * P];
/* frames, and pages to be rid of */
bool framed[N * P], offered[N * P], if_zero[N * P];
byte frames[N], first_waits[N], taker[N * P], tried[N * P];
bool all_refused[N], refused_room[N];
/* the agent */
bool held[N * P];
byte waits[N];  /* page + 1 */
bool dead[N];
/* the home */
byte sharers[P], version[P], owner[P];
bool modified[P], home_drops[P];
byte zeros[P];  /* without an owner: the version whose bytes are zeros */
chan queue[P] = [N] of { byte, mtype:want, byte };
/* the world */
byte newest[P];
byte budget = BUDGET, drops = DROPS;
bool lost;
chan c[N * N] = [CAP] of { Msg };
chan loop[N] = [CAP] of { Msg };

c_decl {
  \#include <stdio.h>
  \#include <stdlib.h>
  enum { ASIDE = 12, kEvents = 15, kStates = 120 };
  static unsigned char seen[kEvents][kStates][kStates];
  static void tell(void) {
    for (int e = 0; e < kEvents; e++)
      for (int a = 0; a < kStates; a++)
        for (int b = 0; b < kStates; b++)
          if (seen[e][a][b]) printf("T %d %d %d\n", e, a, b);
  }
  static void saw(int e, int a, int b) {
    static int first = 1;
    if (first) atexit(tell);
    first = 0;
    seen[e][a][b] = 1;
  }
};

#define usable(i) ((ord[i] != NoOrder && !deferred[i] && keep[i] < R[i]) -> keep[i] : R[i])
#define enough(r, w) ((r) == 2 || ((r) == 1 && (w) == Read))
/* What transitions are compared by: usable right, request, order, offer. In the code: Protocol::view. */
#define out_of(i) (!asked[i] -> 0 : (!sent[i] -> 1 : (!granted[i] -> 2 : 3)))
#define ord_of(i) (ord[i] == NoOrder -> 0 : (discard[i] -> (ord[i] == DropOrder -> 3 : 4) : (deferred[i] -> 1 : 2)))
#define abstract(i) (usable(i) + 3 * out_of(i) + 12 * ord_of(i) + (offered[i] -> 60 : 0))

/* what a step is about, for the comparison: numbered as in transitions.cc */
#define E_REQUEST(wanted) (wanted == Read -> 0 : (wanted == Write -> 1 : 2))
#define E_MESSAGE(kind_) (kind_ == Fetch -> 3 : (kind_ == Invalidate -> 4 : (kind_ == Grant -> 5 : \
  (kind_ == Ack -> 6 : (kind_ == Request -> 10 : (kind_ == Done -> 11 : (kind_ == Offer -> 13 : 14)))))))
#define E_SURRENDERED 7
#define E_RETIRED 8
#define E_DROP 9
#define NONE 255

inline post(to, m) {
  if
  :: to == me -> loop[me] ! m
  :: else -> assert(len(c[I_(me, to)]) < CAP); c[I_(me, to)] ! m
  fi
}

#define may_frame(n, p) (framed[I(n, p)] || frames[n] < FRAMES)
#define may_give(i) (framed[i] && ord[i] == NoOrder && !asked[i] && !offered[i] && (R[i] == 0 || !held[i]))
#define silent(i) (R[i] == 0 || (R[i] == 1 && !source[i]))
#define may_drop(n, p) (may_give(I(n, p)) && silent(I(n, p)))
#define waits_for_frame(i) (asked[i] && !sent[i] && !discard[i])
#define needs_frame(n) (frames[n] >= FRAMES && (waits_for_frame(I(n, 0)) || waits_for_frame(I(n, P - 1))))
#define short_of_frames(n) (needs_frame(n) || (frames[n] >= FRAMES && refused_room[n]))
#define might_take(n) (frames[n] < FRAMES || (!refused_room[n] && (may_drop(n, 0) || may_drop(n, P - 1))))
#define may_offer(i) (drops > 0 || !all_refused[me] || might_take(0) || might_take(1) || might_take(N - 1))

#include "roles.pml"
#include "home.pml"

/* Protocol::step: the event has changed the state, or put its message into loop[me]. */
inline step_begins(subject) {
  about = subject;
  j = 0;
  do
  :: j < P -> before[j] = abstract(I(me, j)); j++
  :: else -> break
  od
}

inline rest_of_step() {
  do
  :: len(loop[me]) > 0 ->
    loop[me] ? m;
    q = m.page;
    if
    :: m.kind == Request -> on_request(m)
    :: m.kind == Done -> on_done(m)
    :: m.kind == Fetch || m.kind == Invalidate -> on_order(m)
    :: m.kind == Grant -> on_grant(m)
    :: m.kind == Ack -> on_ack(m)
    :: m.kind == Offer -> on_offer(m)
    :: m.kind == Refuse -> on_refuse(m)
    fi
  :: len(loop[me]) == 0 -> break
  od;
  retry_deferred();
  j = 0;
  do
  :: j < P ->
    i = I(me, j);
    k = abstract(i);
    if
    :: j == about -> c_code { saw(PNode->e, PNode->before[PNode->j], PNode->k); }
    :: j != about && before[j] != k && about == NONE -> c_code { saw(PNode->e, PNode->before[PNode->j], PNode->k); }
    :: j != about && before[j] != k && about != NONE -> c_code { saw(ASIDE, PNode->before[PNode->j], PNode->k); }
    :: else
    fi;
    before[j] = 0;
    j++
  :: else -> break
  od;
  clear(m); clear(w); clear(v);
  i = 0; j = 0; k = 0; h = 0; q = 0; e = 0; about = 0; by_agent = false; wt = Read
}

#define MAY_ASK(p, wanted, agent)                                                                               \
  (!dead[me] && budget > 0 && (!agent || waits[me] == 0) && (agent || !asked[I(me, p)]) && !enough(usable(I(me, p)), wanted) && \
   (FRAMES > 1 || !agent || !held[I(me, P - 1 - p)]) && (agent || may_frame(me, p)))
#define ASK(p, wanted, agent) MAY_ASK(p, wanted, agent) -> q = p; wt = wanted; by_agent = agent; e = E_REQUEST(wanted)
#define HEAR(f) \
  !dead[me] && f != me && len(c[I_(f, me)]) > 0 -> c[I_(f, me)] ? m; q = m.page; e = E_MESSAGE(m.kind)
#define HAND_OVER(p) !dead[me] && ord[I(me, p)] != NoOrder && !deferred[I(me, p)] -> q = p; e = E_SURRENDERED
/* Evictor::drop, and the choice of the host */
#define GIVE_BACK(p)                                                                                            \
  !dead[me] && (drops > 0 || short_of_frames(me)) && may_drop(me, p) -> q = p; e = E_DROP
#define GIVE_ZERO(p)                                                                                            \
  !dead[me] && drops > 0 && HOME(p) == me && may_give(I(me, p)) && source[I(me, p)] && len(queue[p]) == 0 && !home_drops[p] -> \
    q = p; e = E_DROP; by_agent = true
#define OFFER(p)                                                                                                \
  !dead[me] && (drops > 0 || needs_frame(me)) && may_give(I(me, p)) && source[I(me, p)] &&       \
    may_offer(I(me, p)) -> q = p; e = E_DROP

proctype Node(byte me) {
  Msg m, w, v;
  byte i, j, k, h, e, about, q;
  byte before[P];
  bool by_agent;
  mtype:want wt = Read;
  do
  :: atomic {
       if
       :: ASK(0, Read, true)
       :: ASK(0, Write, true)
       :: ASK(0, Claim, true)
       :: ASK(0, Read, false)
       :: ASK(0, Write, false)
#if P > 1
       :: ASK(1, Read, true)
       :: ASK(1, Write, true)
       :: ASK(1, Claim, true)
       :: GIVE_BACK(1)
       :: GIVE_ZERO(1)
       :: OFFER(1)
       :: HAND_OVER(1)
#endif
       :: GIVE_BACK(0)
       :: GIVE_ZERO(0)
       :: OFFER(0)
       :: HAND_OVER(0)
       :: HEAR(0)
       :: HEAR(1)
       :: HEAR(2)
       :: !dead[me] && waits[me] == 0 && (held[I(me, 0)] || held[I(me, P - 1)]) -> q = NONE; e = E_RETIRED
       fi;
       step_begins(q);
       if
       :: e <= 2 -> budget--; request(q, wt, by_agent)
       :: e == E_SURRENDERED -> surrendered(q)
       :: e == E_RETIRED -> held[I(me, 0)] = false; held[I(me, P - 1)] = false
       :: e == E_DROP -> drop(q, by_agent)
       :: else -> loop[me] ! m
       fi;
       rest_of_step()
     }
#ifdef LOSS
  :: atomic { !lost && me == 0 -> lost = true }            /* some node is lost ... */
  :: atomic { lost && !dead[me] -> dead[me] = true; waits[me] = 0 } /* ... of which each is told, and every wait ends */
#endif
  od
}

proctype Monitor() {
  byte n;
  timeout ->
  do
  :: n < N ->
    assert(waits[n] == 0 && (dead[n] || !lost));
    assert(lost || (!asked[I(n, 0)] && !asked[I(n, P - 1)] && ord[I(n, 0)] == NoOrder && ord[I(n, P - 1)] == NoOrder));
    assert(lost || (!offered[I(n, 0)] && !offered[I(n, P - 1)] && frames[n] <= FRAMES));
    n++
  :: else -> break
  od
}

init {
  byte n;
  atomic {
    do
    :: n < N * P -> owant[n] = Read; ord[n] = NoOrder; omsg[n].kind = Request; omsg[n].want = Read; omsg[n].payload = None; n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < P -> owner[n] = NOBODY; n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < N -> run Node(n); n++
    :: else -> break
    od;
    run Monitor()
  }
}
