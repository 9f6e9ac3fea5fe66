#include "coherence/trails.h"

namespace pangea::coherence {

void Trails::learn(const Stop& from, const Stop& next) {
  Link& l = links_[slot(from)];
  if (l.trust != 0 && l.from.same(from) && l.next.same(next)) {
    l.next.want = next.want;
    if (l.trust < kTrustMax) l.trust++;
    return;
  }
  if (l.trust > 1) {
    l.trust--;
    return;
  }
  l = {from, next, 1};
}

bool Trails::unused(PageNumber page) {
  if (asked_.empty()) return false;
  const Asked& a = asked_[page.v % asked_.size()];
  Link& l = links_[a.slot];
  if (a.page != page || l.trust == 0 || l.next.page != page) return false;
  l.trust = 1;
  return true;
}
}  // namespace pangea::coherence
