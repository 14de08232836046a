// Records of TensorBoard's event files: the few protobuf messages that scalars need (tensorflow/core/util/event.proto
// and summary.proto), and the framing of TFRecord files. No protobuf library: seven fields are all.
//
//   record: u64 length · u32 masked CRC-32C of those 8 bytes · the message · u32 masked CRC-32C of the message
//   Event: 1 wall_time double · 2 step int64 · 3 file_version string · 5 summary Summary · 7 session_log SessionLog
//   Summary: 1 value Value (repeated) · Value: 1 tag string, 2 simple_value float · SessionLog: 1 status (1 = START)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kumiki::metrics {

// CRC-32C (Castagnoli), as in RFC 3720, appendix B.4.
uint32_t crc32c(std::string_view bytes);
// TFRecord's mask: a CRC of data that holds CRCs would be weak.
uint32_t masked_crc32c(std::string_view bytes);

std::string framed(std::string_view message);

// The first record of a file.
std::string version_event(double wall_time);
// A new start of the run at `step`: TensorBoard forgets what earlier files say of this step and later ones.
std::string start_event(double wall_time, int64_t step);
std::string scalars_event(double wall_time, int64_t step,
                          const std::vector<std::pair<std::string_view, float>>& scalars);

} // namespace kumiki::metrics
