// port: writes bytes to an I/O port, for the debug console and the exit device of the machine under test.
//
//   port PORT BYTE...
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

int main(int argc, char** argv) {
  if (argc < 3) {
    fputs("usage: port PORT BYTE...\n", stderr);
    return 2;
  }
  unsigned short port = (unsigned short)strtoul(argv[1], NULL, 0);
  if (iopl(3) != 0) {
    perror("port");
    return 1;
  }
  for (int i = 2; i < argc; ++i) outb((unsigned char)strtoul(argv[i], NULL, 0), port);
  return 0;
}
