#include "coherence/state.h"

namespace pangea::coherence {

void State::grant(const Msg& msg, bool with_page) {
  post(msg.requester, msg, with_page);
  if (!ends_transaction(msg, cfg.self)) return;
  Msg done = msg;
  done.kind = MsgKind::Done;
  loopback.push_back(done);
}

bool State::ends_transaction(const Msg& grant, NodeId from) const {
  return grant.nodes == 0 && grant.requester != from && home(grant.page) == from;
}
}  // namespace pangea::coherence
