#include "tests/ops/runner.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

namespace kumiki::test {
namespace {

constexpr size_t kGuard = 256;
constexpr std::byte kGuardByte{0xA5}, kNanByte{0xFF}; /* four of the latter are a NaN */

/* Memory between two guards, in front of a page that can be neither read nor written: vector loads past the end are seen
 * there, which no sanitizer of today sees. 256-byte aligned, so up to 255 bytes of guard lie before the page; or ending
 * at it to the byte. */
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes, bool to_the_byte = false) : bytes_(bytes) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t slack = to_the_byte ? 0 : (kGuard - bytes % kGuard) % kGuard;
    open_ = (bytes + slack + kGuard + page - 1) / page * page;
    mapped_ = open_ + page;
    void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    if (mprotect(memory_ + open_, page, PROT_NONE) != 0) throw std::runtime_error("a page cannot be closed");
    offset_ = open_ - slack - bytes;
    std::memset(memory_ + offset_ - kGuard, static_cast<int>(kGuardByte), kGuard);
    std::memset(data(), static_cast<int>(kNanByte), bytes);
    std::memset(data() + bytes, static_cast<int>(kGuardByte), slack);
  }
  ~GuardedBuffer() {
    if (memory_) munmap(memory_, mapped_);
  }
  GuardedBuffer(GuardedBuffer&& other) noexcept
      : bytes_(other.bytes_),
        open_(other.open_),
        mapped_(other.mapped_),
        offset_(other.offset_),
        memory_(std::exchange(other.memory_, nullptr)) {}
  GuardedBuffer& operator=(GuardedBuffer&&) = delete;

  std::byte* data() { return memory_ + offset_; }
  km_address address() { return reinterpret_cast<km_address>(data()); }
  size_t bytes() const { return bytes_; }
  bool guards_stand() const {
    const auto stands = [](std::byte b) { return b == kGuardByte; };
    return std::all_of(memory_ + offset_ - kGuard, memory_ + offset_, stands) &&
           std::all_of(memory_ + offset_ + bytes_, memory_ + open_, stands);
  }

 private:
  size_t bytes_, open_, mapped_, offset_;
  std::byte* memory_;
};

[[noreturn]] void blame(const KernelsPlugin& kernels, const Problem& p, const std::string& what) {
  throw std::runtime_error(kernels.name() + ": \"" + p.line + "\": " + what);
}

struct KernelHandle {
  const KernelsPlugin& kernels;
  km_kernel* kernel = nullptr;
  ~KernelHandle() {
    if (kernel) kernels.table().destroy(kernels.self(), kernel);
  }
};

/* Where each buffer of a run lies. */
struct Memory {
  std::vector<GuardedBuffer> own; /* one for each input, then each output; some unused */
  std::vector<size_t> place;      /* buffer of the op → index in own */
};

Memory lay_out(const Problem& p, const std::vector<Tensor>& inputs, const RunOptions& options) {
  Memory memory;
  const size_t n = inputs.size(), first_addend = n - p.addends;
  for (const Tensor& input : inputs) {
    memory.own.emplace_back(input.bytes.size(), options.end_at_page);
    if (!input.bytes.empty()) std::memcpy(memory.own.back().data(), input.bytes.data(), input.bytes.size());
    memory.place.push_back(memory.own.size() - 1);
  }
  size_t addend = first_addend;
  const int64_t mask = p.attribute_i64("accumulate", 0);
  for (size_t o = 0; o < p.outputs.size(); ++o) {
    const bool added = mask >> o & 1;
    memory.own.emplace_back(km_bytes(&p.outputs[o]), options.end_at_page);
    size_t place = memory.own.size() - 1;
    if (added && !options.addends_apart) place = addend;
    if (static_cast<int>(o) == options.in_place_output) place = static_cast<size_t>(options.in_place_input);
    memory.place.push_back(place);
    addend += added;
  }
  return memory;
}

void check_after(const KernelsPlugin& kernels, const Problem& p, const std::vector<Tensor>& inputs, Memory& memory) {
  for (size_t i = 0; i < memory.own.size(); ++i)
    if (!memory.own[i].guards_stand()) blame(kernels, p, numbered("wrote outside of buffer ", i));
  for (size_t i = 0; i < inputs.size(); ++i) {
    bool is_output = false;
    for (size_t o = inputs.size(); o < memory.place.size(); ++o) is_output |= memory.place[o] == i;
    if (!is_output && !inputs[i].bytes.empty() &&
        std::memcmp(memory.own[i].data(), inputs[i].bytes.data(), inputs[i].bytes.size()) != 0)
      blame(kernels, p, numbered("changed its input ", i));
  }
}

std::vector<Tensor> collect(const Problem& p, size_t n_inputs, Memory& memory) {
  std::vector<Tensor> outputs;
  for (size_t o = 0; o < p.outputs.size(); ++o) {
    const km_tensor& type = p.outputs[o];
    outputs.push_back(make_tensor(type.dtype, {type.dims, type.dims + type.rank}));
    std::memcpy(outputs.back().bytes.data(), memory.own[memory.place[n_inputs + o]].data(),
                outputs.back().bytes.size());
  }
  return outputs;
}

} // namespace

RunResult run_problem(const KernelsPlugin& kernels, const Problem& p, const std::vector<Tensor>& inputs,
                      const RunOptions& options) {
  const km_op op = p.op();
  km_request request{};
  request.struct_size = sizeof request;
  request.may_prepack = options.may_prepack ? (1u << op.n_inputs) - 1 : 0;
  request.op = &op;
  RunResult result;
  result.support.struct_size = sizeof(km_support);
  const km_kernels& table = kernels.table();
  const km_status answer = table.query(kernels.self(), &request, &result.support);
  if (answer == KM_UNSUPPORTED) {
    result.reason = TestHost::last_error();
    return result;
  }
  if (answer != KM_OK) blame(kernels, p, "query: " + TestHost::last_error());
  result.supported = true;
  if (options.addends_apart && p.addends && !(result.support.flags & KM_SUPPORT_ADDEND_APART)) return result;

  KernelHandle handle{kernels};
  if (table.create(kernels.self(), &request, &handle.kernel) != KM_OK)
    blame(kernels, p, "create: " + TestHost::last_error());
  /* The caller of pack and run is a thread of the pool. */
  FlushDenormals flush;
  std::vector<GuardedBuffer> packed;
  for (uint32_t i = 0; i < op.n_inputs; ++i) packed.emplace_back(result.support.prepack_bytes[i]);
  for (uint32_t i = 0; i < op.n_inputs; ++i) {
    if (!result.support.prepack_bytes[i]) continue;
    if (!(request.may_prepack >> i & 1)) blame(kernels, p, "asks for a packed input where none was offered");
    if (!result.support.prepack_format[i]) blame(kernels, p, "packs an input without saying the format");
    GuardedBuffer plain(inputs[i].bytes.size(), options.end_at_page);
    std::memcpy(plain.data(), inputs[i].bytes.data(), inputs[i].bytes.size());
    if (table.pack(kernels.self(), handle.kernel, i, plain.address(), packed[i].address(), nullptr) != KM_OK)
      blame(kernels, p, "pack: " + TestHost::last_error());
    if (!packed[i].guards_stand()) blame(kernels, p, "packed outside of its buffer");
  }
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    Memory memory = lay_out(p, inputs, options);
    GuardedBuffer workspace(result.support.workspace_bytes);
    std::vector<km_address> buffers;
    for (size_t place : memory.place) buffers.push_back(memory.own[place].address());
    for (uint32_t i = 0; i < op.n_inputs; ++i)
      if (result.support.prepack_bytes[i]) buffers[i] = packed[i].address();
    const std::clock_t processor_start = std::clock();
    const auto start = std::chrono::steady_clock::now();
    const km_status status = table.run(kernels.self(), handle.kernel, buffers.data(), workspace.address(), nullptr);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.processor_seconds = static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC;
    if (status != KM_OK) blame(kernels, p, "run: " + TestHost::last_error());
    if (!workspace.guards_stand()) blame(kernels, p, "wrote outside of the workspace");
    check_after(kernels, p, inputs, memory);
    result.outputs = collect(p, inputs.size(), memory);
  }
  return result;
}

double relative_error(const Tensor& a, const Tensor& b) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < b.size(); ++i) {
    const double x = a.at(i), y = b.at(i);
    if (x == y || (std::isnan(x) && std::isnan(y))) {
      size += std::isfinite(y) ? y * y : 0;
      continue;
    }
    if (!std::isfinite(x) || !std::isfinite(y)) return std::numeric_limits<double>::infinity();
    difference += (x - y) * (x - y);
    size += y * y;
  }
  /* What is below 1e-30 on the average is nothing: threads flush denormals. */
  const double nothing = static_cast<double>(b.size()) * 1e-60;
  if (difference <= nothing) return 0;
  return std::sqrt(difference / std::max(size, nothing));
}

double rms_difference(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < b.size(); ++i) sum += (a.at(i) - b.at(i)) * (a.at(i) - b.at(i));
  return std::sqrt(sum / static_cast<double>(std::max<int64_t>(1, b.size())));
}

Evaluate evaluate_with(const KernelsPlugin& kernels) {
  return [&kernels](const Problem& p, const std::vector<Tensor>& inputs) {
    RunResult result = run_problem(kernels, p, inputs);
    if (!result.supported) blame(kernels, p, "not supported: " + result.reason);
    return std::move(result.outputs);
  };
}

} // namespace kumiki::test
