// A process asks the kernel for its id once.
//
// libzmq asks several times whenever one of its threads signals another, to notice a fork: 16 times per remote page
// fault, a tenth of the time that fault takes on a virtual machine. libc does not remember the id; this does, in its
// place, for the whole program.
#pragma once

namespace pangea::transport {

/// From now on getpid() answers without a system call, in children that fork() makes as well. Any thread, any number of
/// times.
void remember_process_id();

}  // namespace pangea::transport
