/* The roles of coherence.pml, in the order of evictor.cc and directory.cc; see roles.pml. */

/* Evictor::drop, and Holder::drop */
inline drop(p, zero) {
  i = I(me, p);
  if
  :: drops > 0 -> drops--
  :: else
  fi;
  if
  :: R[i] == 0 -> give_frame(p)
  :: silent(i) && R[i] != 0 -> ord[i] = DropOrder; discard[i] = true; keep[i] = 0; V[i] = 0
  :: !silent(i) && zero -> ord[i] = DropOrder; discard[i] = true; keep[i] = 0; if_zero[i] = true; home_drops[p] = true
  :: !silent(i) && !zero -> offered[i] = true; offer_next(p)
  fi;
  send_waiting()
}

/* Evictor::next_taker: the home first. Beyond that any order will do. */
inline offer_next(p) {
  clear(w);
  w.kind = Offer; w.want = Write; w.from = me; w.page = p; w.requester = me;
  if
  :: HOME(p) != me && !(tried[i] & BIT(HOME(p))) -> taker[i] = HOME(p); post(HOME(p), w)
  :: (HOME(p) == me || (tried[i] & BIT(HOME(p)))) && (tried[i] | BIT(me)) != BIT(N) - 1 ->
    if
    :: me != 0 && !(tried[i] & 1) -> taker[i] = 0
    :: me != 1 && !(tried[i] & 2) -> taker[i] = 1
    :: me != 2 && !(tried[i] & 4) -> taker[i] = 2
    fi;
    post(taker[i], w)
  :: else -> all_refused[me] = true; end_offer(i)
  fi;
  clear(w)
}

inline end_offer(i) { offered[i] = false; taker[i] = 0; tried[i] = 0 }

inline on_offer(m) {
  i = I(me, m.page);
  if
  :: R[i] == 2 || (asked[i] && sent[i] && (owant[i] != Read || wants_write[i]))  /* it is here, or will be */
  :: else ->
    if
    :: may_frame(me, q) && ord[i] == NoOrder && (!asked[i] || sent[i]) -> request(q, Write, false)
    :: else ->
      refused_room[me] = refused_room[me] || !may_frame(me, q);
      copy(w, m); w.kind = Refuse; w.from = me; post(m.requester, w)
    fi
  fi
}

inline on_refuse(m) {
  i = I(me, m.page);
  if
  :: offered[i] && taker[i] == m.from ->
    tried[i] = tried[i] | BIT(m.from);
    if
    :: source[i] -> offer_next(q)
    :: else -> end_offer(i)
    fi
  :: else
  fi
}

/* Directory::on_request, start_head, read, write */
inline on_request(m) {
  k = len(queue[q]);
  assert(len(queue[q]) < N);
  queue[q] ! m.from, m.want, m.version;
  if
  :: k == 0 && !home_drops[q] -> start_head(q)
  :: else
  fi
}

inline on_done(m) {
  assert(len(queue[q]) > 0 && !home_drops[q] && version[q] == m.version);
  queue[q] ? j, wt, k;
  assert(j == m.requester && wt == m.want);
  if
  :: len(queue[q]) > 0 -> start_head(q)
  :: else
  fi
}

inline start_head(p) {
  queue[p] ? <j, wt, k>;
  assert(k <= version[p] && !(modified[p] && owner[p] == j));
  clear(w);
  w.kind = Fetch; w.want = wt; w.from = me; w.page = p; w.requester = j; w.version = version[p];
  if
  :: wt == Read ->
    if
    :: modified[p] || (k != version[p] && owner[p] != NOBODY) ->
      assert(owner[p] != j);
      w.payload = Page;
      k = owner[p]
    :: else ->
      w.kind = Grant;
      if :: k != version[p] -> w.payload = Zero; w.data = zeros[p] :: else fi;
      k = me
    fi;
    modified[p] = false;
    sharers[p] = sharers[p] | BIT(j);
    if :: j == me -> owner[p] = j :: else fi;
    if :: w.kind == Grant -> grant(w) :: else -> post(k, w) fi
  :: else ->
    w.version++;
    h = sharers[p] & (255 - BIT(j));
    if
    :: wt == Write && k != version[p] && owner[p] == NOBODY -> w.payload = Zero; w.data = zeros[p]; k = me; w.kind = Grant
    :: wt == Write && k != version[p] && owner[p] != NOBODY ->
      assert(owner[p] != j);
      w.payload = Page;
      k = owner[p]
    :: (wt == Claim || k == version[p]) && (h == 0 || (h & BIT(me))) -> k = me
    :: else -> k = (h & 1 -> 0 : (h & 2 -> 1 : 2))
    fi;
    h = h & (255 - BIT(k));
    w.nodes = h;
    if :: (sharers[p] & (255 - BIT(j))) == 0 -> w.kind = Grant :: else fi;
    sharers[p] = BIT(j); version[p]++; owner[p] = j; modified[p] = true;
    if
    :: w.kind == Grant -> grant(w)
    :: else -> post(k, w)
    fi;
    w.kind = Invalidate; w.from = me; w.payload = None; w.nodes = 0; w.version = version[p];
    k = 0;
    do
    :: k < N -> if :: h & BIT(k) -> post(k, w) :: else fi; k++
    :: else -> break
    od
  fi;
  clear(w)
}
