#include "transport/control.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "emu/base/assert.h"
#include "emu/base/log.h"
#include "transport/control.pb.h"
#include "transport/printable.h"

namespace pangea::transport {
namespace {
constexpr usize kChunk = payload_max(Channel::Control);
constexpr usize kReasonMax = 2000;  // characters of a shutdown's reason

Bytes bytes_of(const std::string& s) { return {reinterpret_cast<const u8*>(s.data()), s.size()}; }
}  // namespace

void ControlLink::serve(Method method, Serve f) { serve_[static_cast<u32>(method)] = std::move(f); }
void ControlLink::receive(Method method, Receive f) { receive_[static_cast<u32>(method)] = std::move(f); }

void ControlLink::start() {
  endpoint_.set_handler(Channel::Control, [this](NodeId from, Bytes h, Bytes p) { on_frame(from, h, p); });
}

bool ControlLink::send_body(NodeId to, const Part& part, Bytes body) {
  PANGEA_ASSERT(body.size() <= kBodyMax && to.v < kNodesMax);
  wire::ControlHeader h;
  h.set_kind(static_cast<wire::ControlHeader::Kind>(part.kind));
  h.set_method(part.method);
  h.set_call(part.call);
  h.set_unknown_method(part.unknown);
  h.set_total_bytes(body.size());
  const std::lock_guard lock(send_mutex_[to.v]);  // send() never blocks, so neither does this for long
  usize offset = 0;
  do {
    h.set_offset(offset);
    const Bytes chunk = body.subspan(offset, std::min(kChunk, body.size() - offset));
    u8 header[kHeaderMax];
    const usize n = h.ByteSizeLong();
    h.SerializeWithCachedSizesToArray(header);
    if (!endpoint_.send(to, Channel::Control, {header, n}, chunk)) return false;
    offset += chunk.size();
  } while (offset < body.size());
  return true;
}

bool ControlLink::notify(NodeId to, Method method, Bytes body) {
  return send_body(to, {.kind = Kind::Notify, .method = static_cast<u32>(method)}, body);
}

Result<Body> ControlLink::call(NodeId to, Method method, Bytes request, u64 timeout_ns) {
  const std::string what = fmt::format("request {} to node {} failed", static_cast<u32>(method), to.v);
  Waiter waiter{.peer = to};
  u64 id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (waiters_.size() >= kCallsMax) return Error{what, "too many requests are waiting", ""};
    id = next_call_++;
    waiters_.emplace(id, &waiter);
  }
  const bool sent = send_body(to, {.kind = Kind::Call, .method = static_cast<u32>(method), .call = id}, request);
  std::unique_lock lock(mutex_);
  const bool done = sent && wake_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [&] { return waiter.done; });
  waiters_.erase(id);
  if (!sent) return Error{what, "the node is gone", "", ExitStatus::NodeLost};
  if (!done) return Error{what, fmt::format("no answer within {} ms", timeout_ns / 1'000'000), ""};
  return std::move(waiter.reply);
}

void ControlLink::finish(NodeId from, u64 call, Result<Body> reply) {
  const std::lock_guard lock(mutex_);
  const auto it = waiters_.find(call);
  if (it == waiters_.end() || it->second->peer != from) {  // it gave up, or never asked
    ++malformed_;
    return;
  }
  it->second->reply = std::move(reply);
  it->second->done = true;
  wake_.notify_all();
}

void ControlLink::peer_gone(NodeId peer) {
  const std::lock_guard lock(mutex_);
  for (auto& [id, w] : waiters_) {
    if (w->peer != peer || w->done) continue;
    w->reply = Error{fmt::format("a request to node {} failed", peer.v), "the node is gone", "", ExitStatus::NodeLost};
    w->done = true;
  }
  wake_.notify_all();
}

void ControlLink::on_frame(NodeId from, Bytes header, Bytes payload) {
  const auto reject = [this](const char* why) {
    PANGEA_LOG(transport, "dropped a control frame: {}", why);
    const std::lock_guard lock(mutex_);
    ++malformed_;
  };
  wire::ControlHeader h;
  if (from.v >= kNodesMax || !h.ParseFromArray(header.data(), static_cast<int>(header.size())) ||
      !wire::ControlHeader::Kind_IsValid(h.kind()))
    return reject("its header cannot be read");
  if (h.total_bytes() > kBodyMax) return reject("its body would be too large");
  const Part part{static_cast<Kind>(h.kind()), h.method(), h.call(), h.unknown_method()};
  Partial& p = partial_[from.v];
  if (h.offset() == 0) p = {.part = part, .total = h.total_bytes()};
  if (part != p.part || h.total_bytes() != p.total || h.offset() != p.body.size() ||
      payload.size() > p.total - p.body.size() || (payload.empty() && p.total > 0)) {
    p = {};
    return reject("it does not continue the one before");
  }
  if (payload.size() == p.total) return deliver(from, part, payload);  // the usual case: one frame, no copy
  p.body.insert(p.body.end(), payload.begin(), payload.end());         // grows with what has really come
  if (p.body.size() < p.total) return;
  const Body body = std::move(p.body);
  p = {};
  deliver(from, part, body);
}

void ControlLink::deliver(NodeId from, const Part& part, Bytes body) {
  if (part.kind == Kind::Reply) {
    if (part.unknown)
      return finish(from, part.call,
                    Error{fmt::format("request {} to node {} failed", part.method, from.v),
                          "that node does not know this request", "install the same version of Pangea everywhere"});
    return finish(from, part.call, Body(body.begin(), body.end()));
  }
  if (part.kind == Kind::Notify) {
    const auto it = receive_.find(part.method);
    if (it != receive_.end()) return it->second(from, body);
    PANGEA_LOG(transport, "node {} sent a note {} that nobody reads", from.v, part.method);
    const std::lock_guard lock(mutex_);
    ++malformed_;
    return;
  }
  const auto it = serve_.find(part.method);
  Part reply{.kind = Kind::Reply, .method = part.method, .call = part.call, .unknown = it == serve_.end()};
  send_body(from, reply, reply.unknown ? Body{} : it->second(from, body));
}

Status ControlLink::send_config(NodeId to, Bytes blob, u64 timeout_ns) {
  auto reply = call(to, Method::Config, blob, timeout_ns);
  if (!reply) return reply.error();
  return ok();
}

bool ControlLink::send_shutdown(NodeId to, const ShutdownNote& note) {
  wire::Shutdown s;
  s.set_exit_status(note.exit_status);
  s.set_reason(note.reason.substr(0, kReasonMax));
  return notify(to, Method::Shutdown, bytes_of(s.SerializeAsString()));
}

void ControlLink::on_config(std::function<void(NodeId from, Bytes blob)> f) {
  serve(Method::Config, [f = std::move(f)](NodeId from, Bytes blob) {
    f(from, blob);
    return Body{};
  });
}
void ControlLink::on_start(std::function<void(NodeId from)> f) {
  receive(Method::Start, [f = std::move(f)](NodeId from, Bytes) { f(from); });
}
void ControlLink::on_shutdown(std::function<void(NodeId from, ShutdownNote)> f) {
  receive(Method::Shutdown, [this, f = std::move(f)](NodeId from, Bytes body) {
    wire::Shutdown s;
    if (!s.ParseFromArray(body.data(), static_cast<int>(body.size())) || s.reason().size() > kReasonMax) {
      const std::lock_guard lock(mutex_);
      ++malformed_;
      return;
    }
    f(from, {s.exit_status(), printable(s.reason(), kReasonMax)});
  });
}
void ControlLink::on_stats(std::function<Body()> f) {
  serve(Method::Stats, [f = std::move(f)](NodeId, Bytes) { return f(); });
}

u64 ControlLink::malformed() const {
  const std::lock_guard lock(mutex_);
  return malformed_;
}
}  // namespace pangea::transport
