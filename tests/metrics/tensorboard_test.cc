// The component `tensorboard`: its bytes are TensorBoard's own (golden/events.tfevents was written by its protos and
// writer, tests/oracle/tensorboard_events.py), its CRC has the published answers, and a run that goes on says so.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "plugins/metrics/event_record.h"
#include "tests/metrics/metrics_sink.h"

namespace kumiki::test {
namespace {

using metrics::crc32c, metrics::framed, metrics::scalars_event, metrics::start_event, metrics::version_event;

std::vector<std::string> files_of(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// The messages of a file; fails where a frame or a checksum is wrong.
std::vector<std::string> messages_of(const std::string& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> messages;
  for (size_t at = 0; at < bytes.size();) {
    uint64_t length = 0;
    REQUIRE(bytes.size() - at >= 16);
    std::memcpy(&length, bytes.data() + at, 8);
    REQUIRE(length <= bytes.size() - at - 16);
    const std::string message = bytes.substr(at + 12, length);
    REQUIRE(framed(message) == bytes.substr(at, length + 16));
    messages.push_back(message);
    at += length + 16;
  }
  return messages;
}

// Messages begin with the wall time, 9 bytes that differ each time.
std::string behind_time(const std::string& message) { return message.substr(9); }

} // namespace

TEST_CASE("CRC-32C has the answers of RFC 3720, B.4") {
  CHECK(crc32c("") == 0);
  CHECK(crc32c("123456789") == 0xe3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aa);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  CHECK(crc32c(ascending) == 0x46dd794e);
}

TEST_CASE("records are TensorBoard's own, byte by byte") {
  const std::string ours = framed(version_event(1.5)) + framed(start_event(1764000000.25, 101)) +
                           framed(scalars_event(1764000001.125, 101, {{"loss", 3.25f}, {"learning_rate", 3e-4f}})) +
                           framed(scalars_event(1764000002.0, 123456789012, {{"eval_loss", std::nanf("")}}));
  CHECK(ours == read_file("tests/metrics/golden/events.tfevents"));
}

TEST_CASE("a run writes its version, then each step at once") {
  const TemporaryFolder folder;
  MetricsSink sink("tensorboard", folder.path());
  REQUIRE(sink.status() == KM_OK);
  const auto files = files_of(folder.path() + "/tensorboard");
  REQUIRE(files.size() == 1);
  const std::string path = folder.path() + "/tensorboard/" + files[0];
  sink.step({{"step", 1}, {"loss", 4.5}, {"grad_norm", 0.5}});
  sink.event(1, "notice", "nothing");
  sink.step({{"step", 2}, {"eval_loss", 4.25}});
  const auto messages = messages_of(path);
  REQUIRE(messages.size() == 3);
  CHECK(behind_time(messages[0]) == behind_time(version_event(0)));
  CHECK(behind_time(messages[1]) == behind_time(scalars_event(0, 1, {{"loss", 4.5f}, {"grad_norm", 0.5f}})));
  CHECK(behind_time(messages[2]) == behind_time(scalars_event(0, 2, {{"eval_loss", 4.25f}})));
}

TEST_CASE("a run that goes on writes a file that sorts behind the earlier ones, and says from where") {
  const TemporaryFolder folder;
  for (const int64_t first_step : {1, 101, 51})
    MetricsSink("tensorboard", folder.path(), first_step).step({{"step", 1}});
  const auto files = files_of(folder.path() + "/tensorboard");
  REQUIRE(files.size() == 3);
  const auto messages = [&](size_t i) { return messages_of(folder.path() + "/tensorboard/" + files[i]); };
  CHECK(messages(0).size() == 2);
  CHECK(behind_time(messages(1)[1]) == behind_time(start_event(0, 101)));
  CHECK(behind_time(messages(2)[1]) == behind_time(start_event(0, 51)));
}

} // namespace kumiki::test
