#include "emu/machine/debug/gdb_server.h"

#include <pthread.h>
#include <unistd.h>

namespace pangea::machine {
GdbServer::GdbServer(std::unique_ptr<devices::CharBackend> line, DebugHost& host, bool running)
    : line_(std::move(line)),
      session_(
          host, [this](const std::string& t) { send(t); }, running) {}

Result<std::unique_ptr<GdbServer>> GdbServer::listen(const std::string& address, DebugHost& host, bool running) {
  // "tcp::1234" listens on this computer alone: whoever reaches the port owns the guest.
  std::string place = address.substr(4, address.find(',') - 4);
  if (place.starts_with(':')) place = "127.0.0.1" + place;
  auto line = devices::open_char_backend("tcp:" + place + ",server,nowait", {});
  if (!line) {
    Error e = line.error();
    e.what = "-gdb " + address;
    return e;
  }
  std::unique_ptr<GdbServer> s(new GdbServer(*std::move(line), host, running));
  if (Status started = s->line_->start(*s); !started) return started.error();
  s->thread_ = std::thread([server = s.get()] { server->loop(); });
  pthread_setname_np(s->thread_.native_handle(), "gdb");
  return s;
}

void GdbServer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  line_->stop(100);
}

void GdbServer::stopped(const DebugStop& s) {
  {
    const std::lock_guard lock(mutex_);
    if (stops_.size() < kStops) stops_.push_back(s);
  }
  wake_.notify_one();
}

usize GdbServer::room() {
  const std::lock_guard lock(mutex_);
  return kInput - input_.size();
}

void GdbServer::receive(std::span<const u8> bytes) {
  {
    const std::lock_guard lock(mutex_);
    for (const u8 b : bytes)
      if (input_.size() < kInput) input_.push_back(b);
  }
  wake_.notify_one();
}

void GdbServer::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !input_.empty() || !stops_.empty(); });
    if (stopping_) return;
    if (!stops_.empty()) {
      const DebugStop s = stops_.front();
      stops_.pop_front();
      lock.unlock();
      session_.stopped(s);
      lock.lock();
      continue;
    }
    const bool was_full = input_.size() == kInput;
    const u8 byte = input_.front();
    input_.pop_front();
    lock.unlock();
    if (was_full) line_->resume_input();
    feed(byte);
    lock.lock();
  }
}

void GdbServer::feed(u8 byte) {
  const GdbFramer::Event e = framer_.feed(byte);
  const auto put = [this](char c) { line_->write({reinterpret_cast<const u8*>(&c), 1}); };
  if (framer_.bad_sum() && !session_.no_ack()) put('-');
  switch (e) {
    case GdbFramer::Event::Packet:
      if (!session_.no_ack()) put('+');
      session_.packet(framer_.packet());
      break;
    case GdbFramer::Event::Interrupt: session_.interrupt(); break;
    case GdbFramer::Event::Resend:
      if (!session_.no_ack()) line_->write({reinterpret_cast<const u8*>(last_.data()), last_.size()});
      break;
    case GdbFramer::Event::None: break;
  }
}

void GdbServer::send(const std::string& text) {
  last_ = GdbFramer::frame(text);
  std::span<const u8> rest(reinterpret_cast<const u8*>(last_.data()), last_.size());
  for (int tries = 0; !rest.empty() && tries < 2000; ++tries) {
    rest = rest.subspan(line_->write(rest));
    if (!rest.empty()) usleep(1000);  // the ring is full; a client that reads nothing for two seconds loses it
  }
}
}  // namespace pangea::machine
