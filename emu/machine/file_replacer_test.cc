#include "emu/machine/file_replacer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "emu/base/types.h"

namespace pangea::machine {
namespace {
namespace fs = std::filesystem;

struct FileReplacerTest : testing::Test {
  FileReplacerTest() { fs::create_directory(dir); }
  ~FileReplacerTest() override { fs::remove_all(dir); }
  std::string text() const {
    std::ifstream in(file);
    std::stringstream s;
    s << in.rdbuf();
    return s.str();
  }
  usize files() const {
    return static_cast<usize>(std::distance(fs::directory_iterator(dir), fs::directory_iterator()));
  }
  const fs::path dir = fs::temp_directory_path() / ("pangea-replacer-" + std::to_string(getpid()));
  const std::string file = dir / "stats";
};

TEST_F(FileReplacerTest, AReaderSeesTheOldTextOrTheNewOne) {
  std::atomic<bool> over{false};
  std::thread reader;
  {
    FileReplacer r;
    ASSERT_TRUE(r.start(file));
    EXPECT_EQ(files(), 0u);  // nothing yet
    ASSERT_TRUE(r.replace(std::string(300'000, 'a')));
    reader = std::thread([&] {
      while (!over) {
        const std::string t = text();
        EXPECT_EQ(t, std::string(t.front() == 'a' ? 300'000 : 100'000, t.front()));
      }
    });
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(r.replace(i % 2 ? std::string(300'000, 'a') : std::string(100'000, 'b')));
  }
  over = true;
  reader.join();
  EXPECT_EQ(files(), 1u);
}

TEST_F(FileReplacerTest, AProcessThatIsKilledInTheMiddleLeavesTheOldTextAndNothingElse) {
  std::ofstream(file) << "old";
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // a grandchild becomes ours
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    FileReplacer r;
    if (!r.start(file)) _exit(1);
    const pid_t child = r.child();
    kill(child, SIGSTOP);  // it takes no more: the text gets stuck on its way, and we with it
    if (write(ready[1], &child, sizeof child) != sizeof child) _exit(1);
    (void)r.replace(std::string(usize{64} << 20, 'x'));
    _exit(2);
  }
  pid_t child = 0;
  ASSERT_EQ(read(ready[0], &child, sizeof child), ssize_t{sizeof child});
  usleep(100'000);
  kill(pid, SIGKILL);
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  kill(child, SIGCONT);  // it now reads the half, and finds that there is no more
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(text(), "old");
  EXPECT_EQ(files(), 1u);
  close(ready[0]);
  close(ready[1]);
}

TEST_F(FileReplacerTest, LinksAndModesStayAndWhatCannotBeWrittenIsSaidAtOnce) {
  const std::string link = dir / "link";
  std::ofstream(file) << "old";
  ASSERT_EQ(chmod(file.c_str(), 0600), 0);
  fs::create_symlink("stats", link);
  {
    FileReplacer r;
    ASSERT_TRUE(r.start(link));
    ASSERT_TRUE(r.replace("new"));
  }
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(text(), "new");
  EXPECT_EQ(fs::status(file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  FileReplacer nowhere;
  EXPECT_FALSE(nowhere.start(dir / "nowhere" / "stats"));
  FileReplacer late;
  ASSERT_TRUE(late.start(file));
  fs::remove_all(dir);
  EXPECT_FALSE(late.replace("new"));
  EXPECT_FALSE(late.replace("new"));  // and goes on
}
}  // namespace
}  // namespace pangea::machine
