// One step of training is the same step however it is cut, planned and computed: micro-batches, chains of kernels,
// threads, fusion, packing; and bf16 comes close.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/base/error.h"
#include "tests/run/rig.h"

using namespace kumiki;
using namespace kumiki::test;

namespace {

std::vector<double> losses(Rig& rig, int steps) {
  std::vector<double> out;
  for (int i = 0; i < steps; ++i) out.push_back(rig.step());
  return out;
}

void check_close(const std::vector<double>& a, const std::vector<double>& b, double relative) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i, a[i], b[i]);
    CHECK(std::abs(a[i] - b[i]) <= relative * std::abs(b[i]));
  }
}

// Every gradient of a step, relative to the largest of its parameter. Where a parameter's whole gradient is rounding
// (key biases: softmax does not see them), to a hundredth of the largest of all.
void check_gradients(Rig& a, Rig& b, double relative) {
  std::map<std::string, std::vector<float>> right;
  double largest = 0;
  for (const std::string& name : b.parameters())
    for (float g : right[name] = b.gradient(name)) largest = std::max(largest, std::abs(static_cast<double>(g)));
  REQUIRE(largest > 1e-3);
  for (const std::string& name : b.parameters()) {
    const std::vector<float> left = a.gradient(name);
    REQUIRE(left.size() == right[name].size());
    double scale = largest * 1e-2, worst = 0;
    for (float g : right[name]) scale = std::max(scale, std::abs(static_cast<double>(g)));
    for (size_t i = 0; i < left.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(left[i]) - static_cast<double>(right[name][i])));
    CAPTURE(name, worst, scale);
    CHECK(worst <= relative * scale);
  }
}

const char* const kModels[] = {"gpt", "gpt dropout", "gpt untied", "llama"};
const char* const kReference = "\"reference\"";
const char* const kGeneric = "\"generic\", \"reference\"";

} // namespace

TEST_CASE("a global batch has the same losses however it is cut into micro-batches") {
  for (const char* model : kModels) {
    for (const char* kernels : {kReference, kGeneric}) {
      CAPTURE(model, kernels);
      Rig whole(tiny(model, kernels, {"run.micro_batch=4"}));
      const std::vector<double> expected = losses(whole, 3);
      CHECK(expected[0] != expected[1]);
      for (const char* micro : {"1", "2"}) {
        CAPTURE(micro);
        Rig cut(tiny(model, kernels, {std::string("run.micro_batch=") + micro}));
        check_close(losses(cut, 3), expected, 1e-5);
      }
    }
  }
}

TEST_CASE("kernels of the chain agree with the reference") {
  for (const char* model : kModels) {
    CAPTURE(model);
    Rig reference(tiny(model, kReference), {true, true, true}), generic(tiny(model, kGeneric), {true, true, true});
    reference.stir(0.1);
    generic.stir(0.1);
    check_close(losses(generic, 1), losses(reference, 1), 1e-5);
    check_gradients(generic, reference, 1e-4);
  }
}

TEST_CASE("the number of threads does not change a bit") {
  for (const char* model : kModels) {
    CAPTURE(model);
    Rig one(tiny(model, kGeneric, {"run.threads=1"})), three(tiny(model, kGeneric, {"run.threads=3"}));
    REQUIRE(three.engine().pool().threads() == 3);
    CHECK(losses(one, 3) == losses(three, 3));
    for (const std::string& name : one.parameters()) {
      const std::vector<float> a = one.parameter(name), b = three.parameter(name);
      CAPTURE(name);
      CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("fused and unfused graphs have the same loss and gradients") {
  for (const char* model : kModels) {
    for (const char* kernels : {kReference, kGeneric}) {
      CAPTURE(model, kernels);
      Rig fused(tiny(model, kernels), {true, true, true}), plain(tiny(model, kernels), {false, true, true});
      CHECK(fused.plan().body[0].steps.size() < plain.plan().body[0].steps.size());
      fused.stir(0.1);
      plain.stir(0.1);
      check_close(losses(fused, 1), losses(plain, 1), 1e-5);
      check_gradients(fused, plain, 1e-5);
    }
  }
}

TEST_CASE("packed and plain weights have the same loss and gradients") {
  for (const char* model : kModels) {
    CAPTURE(model);
    Rig packed(tiny(model, kGeneric), {true, true, true}), plain(tiny(model, kGeneric), {true, false, true});
    packed.stir(0.1);
    plain.stir(0.1);
    check_close(losses(packed, 1), losses(plain, 1), 1e-5);
    check_gradients(packed, plain, 1e-5);
  }
}

TEST_CASE("bf16 comes close to f32") {
  for (const char* model : {"gpt", "llama"}) {
    CAPTURE(model);
    Rig exact(tiny(model, kGeneric)), rounded(tiny(model, kGeneric, {"run.compute=bf16"}));
    const std::vector<double> a = losses(exact, 5), b = losses(rounded, 5);
    CHECK(a != b);
    check_close(b, a, 0.02);
  }
}
