#include "tests/ops/contract.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tests/ops/cases.h"
#include "tests/ops/runner.h"

namespace kumiki::test {
namespace {

/* What query says of the op with this `accumulate` and its addends at the end (of output 0 where there is no such
 * output). */
km_status query_accumulating(const KernelsPlugin& kernels, const Problem& p, int64_t mask) {
  Problem more;
  parse_problem(p.line, more);
  for (size_t o = 0; o < 64; ++o)
    if (mask >> o & 1) more.inputs.push_back(more.outputs[o < more.outputs.size() ? o : 0]);
  km_attribute accumulate = {"accumulate", KM_ATTRIBUTE_I64, 0, {}};
  accumulate.value.i64 = mask;
  more.attributes.push_back(accumulate);
  const km_op op = more.op();
  const km_request request = {sizeof(km_request), 0, &op};
  km_support support = {};
  support.struct_size = sizeof support;
  return kernels.table().query(kernels.self(), &request, &support);
}

/* Packs input 1 of a product by the component: {format, bytes}, empty where it wants the plain one. */
std::pair<std::string, std::vector<std::byte>> packed_right(const KernelsPlugin& kernels, const std::string& line) {
  Problem p;
  parse_problem(line, p);
  const km_op op = p.op();
  const km_request request = {sizeof(km_request), 2, &op};
  km_support support = {};
  support.struct_size = sizeof support;
  if (kernels.table().query(kernels.self(), &request, &support) != KM_OK || support.prepack_bytes[1] == 0) return {};
  km_kernel* kernel = nullptr;
  REQUIRE(kernels.table().create(kernels.self(), &request, &kernel) == KM_OK);
  Tensor plain = make_tensor(KM_F32, {p.inputs[1].dims[0], p.inputs[1].dims[1]});
  for (int64_t i = 0; i < plain.size(); ++i) plain.set(i, static_cast<double>(i + 1));
  const size_t bytes = support.prepack_bytes[1];
  void* room = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  const auto address = [](const void* at) { return static_cast<km_address>(reinterpret_cast<uintptr_t>(at)); };
  std::vector<std::byte> packed[2]; /* once more in the same place: what else lay there meanwhile must not matter */
  for (std::vector<std::byte>& copy : packed) {
    std::memset(room, 0xff, bytes);
    REQUIRE(kernels.table().pack(kernels.self(), kernel, 1, address(plain.bytes.data()), address(room), nullptr) ==
            KM_OK);
    const auto* begin = static_cast<const std::byte*>(room);
    copy.assign(begin, begin + bytes);
  }
  CHECK(packed[0] == packed[1]);
  std::free(room);
  kernels.table().destroy(kernels.self(), kernel);
  return {support.prepack_format[1], packed[0]};
}

} // namespace

void check_refuses_addends(const std::string& path, const std::string& reference_path) {
  TestHost host;
  KernelsPlugin kernels(host, path), reference(host, reference_path);
  if (!kernels.supported()) return;
  int refused = 0, taken = 0;
  for (const char* line : kCases) {
    Problem p;
    parse_problem(line, p);
    if (p.addends > 0 || query_accumulating(kernels, p, 0) != KM_OK) continue;
    for (size_t o = 0; o <= p.outputs.size(); ++o) {
      if (p.inputs.size() == KM_MAX_INPUTS) continue;
      const int64_t mask = int64_t{1} << o;
      const km_status status = query_accumulating(kernels, p, mask);
      INFO(line << " accumulate=" << mask);
      if (query_accumulating(reference, p, mask) == KM_OK) {
        taken += status == KM_OK;
        continue;
      }
      CHECK(status == KM_UNSUPPORTED);
      ++refused;
    }
  }
  CHECK(refused > 0);
  CHECK(taken > 0);
}

void check_packing_names(const std::string& path) {
  TestHost host;
  const KernelsPlugin kernels(host, path);
  if (!kernels.supported()) return;
  std::map<std::string, std::vector<std::byte>> known;
  for (const char* rows : {"5", "64", "700"}) {
    for (const char* turned : {"", " transpose_b=1"}) {
      const std::string line = std::string("matmul a=") + rows + "x48 b=48x48" + turned;
      const auto [format, bytes] = packed_right(kernels, line);
      if (bytes.empty()) continue;
      INFO(line << ": " << format);
      CHECK(known.emplace(format, bytes).first->second == bytes);
    }
  }
  CHECK(!known.empty());
}

} // namespace kumiki::test
