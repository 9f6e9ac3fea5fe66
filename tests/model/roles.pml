/* The roles of coherence.pml, in the order of requester.cc and holder.cc; home.pml has the rest. `me` is the node that takes
 * the step; i, j, k, h, q, wt and the messages w, v are its scratch. */

/* State::grant */
inline grant(m) {
  m.kind = Grant;
  m.from = me;
  post(m.requester, m);
  if
  :: m.nodes == 0 && m.requester != me && HOME(m.page) == me -> m.kind = Done; m.from = m.requester; loop[me] ! m
  :: else
  fi
}

/* Requester::send */
inline send_request(p) {
  sent[I(me, p)] = true;
  clear(w);
  w.kind = Request; w.want = owant[I(me, p)]; w.from = me; w.page = p; w.requester = me; w.version = V[I(me, p)];
  post(HOME(p), w)
}

inline clear(m) {
  m.kind = Request; m.want = Read; m.payload = None; m.from = 0; m.page = 0; m.requester = 0; m.version = 0; m.nodes = 0;
  m.data = 0
}

/* Requester::request; `agent`: the node's agent, or nobody that waits */
inline request(p, wanted, agent) {
  i = I(me, p);
  if
  :: agent -> waits[me] = p + 1; j = p; do :: j < P -> held[I(me, j)] = false; j++ :: else -> break od
  :: else
  fi;
  if
  :: asked[i] -> join(wanted, agent)
  :: else ->
    asked[i] = true; owant[i] = wanted;
    join(wanted, agent);
    if
    :: ord[i] != NoOrder && discard[i]  /* the frame is about to be emptied */
    :: else -> send_if_room(p)
    fi
  fi
}

/* Requester::send_or_queue; with two pages the first one and the other are all the queue */
inline send_if_room(p) {
  if
  :: may_frame(me, p) && (framed[I(me, p)] || first_waits[me] == 0) -> take_frame(p); send_request(p)
  :: else -> if :: first_waits[me] == 0 -> first_waits[me] = p + 1 :: else fi
  fi
}

inline take_frame(p) {
  if
  :: !framed[I(me, p)] -> framed[I(me, p)] = true; frames[me]++; assert(frames[me] <= FRAMES)
  :: else
  fi
}

/* State::give_frame */
inline give_frame(p) {
  assert(framed[I(me, p)] && R[I(me, p)] == 0);
  framed[I(me, p)] = false; frames[me]--; V[I(me, p)] = 0; D[I(me, p)] = 0; refused_room[me] = false
}

/* Requester::send_waiting */
inline send_waiting() {
  do
  :: first_waits[me] != 0 && frames[me] < FRAMES ->
    j = first_waits[me] - 1;
    take_frame(j);
    send_request(j);
    j = P - 1 - j;
    first_waits[me] = (waits_for_frame(I(me, j)) -> j + 1 : 0)
  :: else -> break
  od
}

inline join(wanted, agent) {
  if
  :: wanted == Read -> reader[i] = reader[i] || agent
  :: else ->
    writer[i] = writer[i] || agent;
    if
    :: owant[i] == Read && sent[i] -> wants_write[i] = true
    :: owant[i] == Read && !sent[i] -> owant[i] = wanted
    :: else
    fi
  fi
}

/* Requester::on_grant, accept */
inline on_grant(m) {
  i = I(me, m.page);
  assert(asked[i] && sent[i] && !granted[i] && owant[i] == m.want);
  assert(ord[i] == NoOrder);
  assert(!(m.nodes & BIT(me)) && (m.want != Read || m.nodes == 0));
  assert(m.version >= V[i] && (m.want == Read || m.version > V[i]));
  assert(m.payload != None || m.want == Claim || (m.want == Read -> m.version : m.version - 1) == V[i]);
  assert(m.payload == None || (m.want != Claim && (m.want == Read -> m.version : m.version - 1) > V[i] && R[i] == 0));
  granted[i] = true; over[i] = m.version; expected[i] = m.nodes;
  ended[i] = m.nodes == 0 && m.requester != m.from && HOME(m.page) == m.from;
  if
  :: m.payload != None -> D[i] = m.data
  :: m.want == Claim && R[i] == 0 -> D[i] = UNKNOWN
  :: else
  fi;
  complete(q)
}

inline on_ack(m) {
  i = I(me, m.page);
  assert(asked[i] && sent[i] && !(acks[i] & BIT(m.from)));
  assert(!granted[i] || (expected[i] & BIT(m.from)));
  acks[i] = acks[i] | BIT(m.from);
  complete(q)
}

/* Requester::complete_if_ready */
inline complete(p) {
  if
  :: granted[i] && (expected[i] & (255 - acks[i])) == 0 ->
    V[i] = over[i];
    R[i] = (owant[i] == Read -> 1 : 2);
    source[i] = owant[i] != Read || HOME(p) == me;
    single_writer(p);
    if
    :: owant[i] != Read ->
      assert(owant[i] == Claim || D[i] == newest[p]);
      newest[p]++;
      D[i] = newest[p]
    :: else -> assert(D[i] == newest[p])
    fi;
    if
    :: reader[i] || (writer[i] && owant[i] != Read) -> held[i] = true; waits[me] = 0
    :: else
    fi;
    if
    :: !ended[i] ->
      clear(w);
      w.kind = Done; w.want = owant[i]; w.from = me; w.page = p; w.requester = me; w.version = over[i];
      post(HOME(p), w)
    :: else
    fi;
    granted[i] = false; ended[i] = false; over[i] = 0; expected[i] = 0; acks[i] = 0; reader[i] = false; sent[i] = false;
    if
    :: owant[i] == Read && wants_write[i] -> wants_write[i] = false; owant[i] = Write; send_request(p)
    :: else -> asked[i] = false; writer[i] = false; wants_write[i] = false; owant[i] = Read
    fi
  :: else
  fi
}

inline single_writer(p) {
  j = 0;
  do
  :: j < N -> assert(j == me || (R[i] == 2 -> R[I(j, p)] == 0 : R[I(j, p)] < 2)); j++
  :: else -> break
  od
}

/* Holder::on_order */
inline on_order(m) {
  i = I(me, m.page);
  assert(ord[i] == NoOrder || (ord[i] == DropOrder && m.want != Read && m.payload != Page));
  assert(!granted[i]);
  assert(m.payload != Page ||
         (R[i] != 0 && V[i] == (m.want == Read -> m.version : m.version - 1) && m.want != Claim));
  if
  :: ord[i] == DropOrder -> ord[i] = (m.kind == Fetch -> FetchOrder : InvalidateOrder); copy(omsg[i], m)
  :: ord[i] == NoOrder && R[i] <= (m.want == Read -> 1 : 0) ->
    if
    :: m.requester == m.from -> source[i] = false  /* the home reads: from now on it has the bytes */
    :: else
    fi;
    answer(m, m.kind == Fetch)
  :: else ->
    ord[i] = (m.kind == Fetch -> FetchOrder : InvalidateOrder);
    keep[i] = (m.want == Read -> 1 : 0);
    deferred[i] = held[i];
    copy(omsg[i], m)
  fi
}

inline copy(to, m) {
  to.kind = m.kind; to.want = m.want; to.payload = m.payload; to.from = m.from; to.page = m.page;
  to.requester = m.requester; to.version = m.version; to.nodes = m.nodes; to.data = m.data
}

inline answer(m, is_fetch) {
  copy(w, m);
  if
  :: is_fetch ->
    if
    :: w.payload == Page -> w.data = D[I(me, m.page)]; if :: w.payload = Page :: w.payload = Zero fi
    :: else
    fi;
    grant(w)
  :: else -> w.kind = Ack; w.from = me; post(w.requester, w)
  fi
}

/* Holder::surrendered */
inline surrendered(p) {
  i = I(me, p);
  if
  :: if_zero[i] -> home_dropped(p, true)
  :: if_zero[i] -> home_dropped(p, false)
  :: else -> handed_over(p)
  fi;
  send_waiting()
}

/* Holder::dropped, of the home's own copy; Directory::drop_ended; Requester::resume */
inline home_dropped(p, zero) {
  ord[i] = NoOrder; discard[i] = false; if_zero[i] = false; home_drops[p] = false;
  if
  :: zero ->
    assert(D[i] == newest[p] && owner[p] == me);
    zeros[p] = D[i]; sharers[p] = sharers[p] & (255 - BIT(me)); owner[p] = NOBODY; modified[p] = false;
    R[i] = 0; source[i] = false;
    give_frame(p)
  :: else
  fi;
  if
  :: len(queue[p]) > 0 -> start_head(p)
  :: else
  fi;
  if
  :: asked[i] && !sent[i] && enough(R[i], owant[i]) ->
    if
    :: reader[i] || writer[i] -> held[i] = true; waits[me] = 0
    :: else
    fi;
    asked[i] = false; reader[i] = false; writer[i] = false; owant[i] = Read
  :: asked[i] && !sent[i] && !enough(R[i], owant[i]) -> send_if_room(p)
  :: else
  fi
}

inline handed_over(p) {
  R[i] = keep[i];
  source[i] = keep[i] != 0 && source[i] && omsg[i].requester != HOME(p);
  copy(v, omsg[i]);
  k = (ord[i] == FetchOrder -> 1 : (ord[i] == InvalidateOrder -> 2 : 0));
  ord[i] = NoOrder; keep[i] = 0; clear(omsg[i]);
  if
  :: k != 0 -> answer(v, k == 1)
  :: else
  fi;
  if
  :: discard[i] -> discard[i] = false; give_frame(p); if :: asked[i] && !sent[i] -> send_if_room(p) :: else fi
  :: else
  fi;
  if
  :: offered[i] && R[i] == 0 -> end_offer(i); if :: !asked[i] -> give_frame(p) :: else fi
  :: else
  fi
}

/* Holder::retry_deferred, at the end of each step */
inline retry_deferred() {
  j = 0;
  do
  :: j < P -> if :: deferred[I(me, j)] && !held[I(me, j)] -> deferred[I(me, j)] = false :: else fi; j++
  :: else -> break
  od
}
