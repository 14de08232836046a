#include <catch2/catch.hpp>

#include <cstdint>
#include <thread>
#include <vector>

#include "core/plugin/host.h"

using namespace kumiki;

TEST_CASE("the text of an error belongs to the thread that failed and is taken once") {
  Host host;
  const km_host* abi = host.abi();
  CHECK(abi->fail(abi, KM_ERROR_USER, "%s is %d", "layers", 3) == KM_ERROR_USER);
  std::thread other([&] {
    CHECK(Host::take_error().empty());
    abi->fail(abi, KM_ERROR_SYSTEM, "another");
    CHECK(Host::take_error() == "another");
  });
  other.join();
  CHECK(Host::take_error() == "layers is 3");
  CHECK(Host::take_error().empty());
  const std::string large(100000, 'x');
  abi->fail(abi, KM_ERROR_USER, "%s", large.c_str());
  CHECK(Host::take_error() == large);
}

TEST_CASE("a status becomes an Error with the plugin's text and the exit code of whose fault it is") {
  Host host;
  const km_host* abi = host.abi();
  CHECK_NOTHROW(check(KM_OK, "kernels generic", "open"));
  const std::vector<std::pair<km_status, int>> cases = {{KM_ERROR_HOST, 1},
                                                        {KM_ERROR_PLUGIN, 1},
                                                        {KM_ERROR_USER, 2},
                                                        {KM_ERROR_SYSTEM, 6},
                                                        {KM_UNSUPPORTED, 2},
                                                        {KM_DEVICE_LOST, 6},
                                                        {99, 1}};
  for (const auto& [status, exit_code] : cases) {
    CAPTURE(status);
    try {
      check(abi->fail(abi, status, "no such file"), "data text", "open");
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.exit_code == exit_code);
      CHECK(std::string(error.what()).find("data text: open: no such file") == 0);
    }
  }
  try {
    check(KM_ERROR_PLUGIN, "data text", "read");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("no reason given (KM_ERROR_PLUGIN)") != std::string::npos);
  }
}

TEST_CASE("services and the rank's context are found from the km_host that a plugin hands back") {
  Host first, second;
  const int table = 1;
  int context = 2;
  first.set_service("kumiki.graph/1", &table);
  first.set_context(&context);
  const km_host* abi = first.abi();
  CHECK(abi->service(abi, "kumiki.graph/1") == &table);
  CHECK(abi->service(abi, "kumiki.graph/2") == nullptr);
  CHECK(abi->service(abi, nullptr) == nullptr);
  CHECK(second.abi()->service(second.abi(), "kumiki.graph/1") == nullptr);
  CHECK(Host::from(abi) == &first);
  CHECK(Host::from(abi)->context<int>() == &context);
  CHECK(abi->struct_size == sizeof(km_host));
  CHECK(abi->minor_lowest == 1);
  CHECK(abi->minor_highest == KM_ABI_MINOR);
}

TEST_CASE("host memory is aligned as asked") {
  Host host;
  const km_host* abi = host.abi();
  for (const uint64_t alignment : {1, 8, 64, 256, 4096}) {
    void* memory = abi->allocate(abi, 100, alignment);
    REQUIRE(memory != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(memory) % alignment == 0);
    abi->release(abi, memory);
  }
  CHECK(abi->allocate(abi, 100, 24) == nullptr);
  void* nothing = abi->allocate(abi, 0, 64);
  CHECK(nothing != nullptr);
  abi->release(abi, nothing);
  abi->release(abi, nullptr);
}
