/* The reference against numbers that were not made with it: published vectors, and formulas written a second time. */
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>

#include "plugins/kernels/reference/reference.h"
#include "tests/ops/runner.h"

namespace kumiki::test {
namespace {

struct Reference {
  TestHost host;
  KernelsPlugin kernels{host, "plugins/kernels/reference/reference.so"};

  std::vector<Tensor> run(const Problem& p, const std::vector<Tensor>& inputs) {
    return evaluate_with(kernels)(p, inputs);
  }
};

TEST_CASE("Philox4x32-10 gives the vectors of the Random123 distribution") {
  struct Vector {
    uint32_t counter[4], key[2], word[4];
  };
  /* Random123 (Salmon and others), tests/kat_vectors: philox4x32 10. */
  const Vector vectors[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Vector& v : vectors) {
    uint32_t word[4];
    reference_philox(v.counter, v.key, word);
    for (int i = 0; i < 4; ++i) CHECK(word[i] == v.word[i]);
  }
}

TEST_CASE("dropout keeps what the words of Philox say, for counters and keys of both halves") {
  Reference reference;
  Problem p;
  /* Element 0 … 3 of sample 0 under the key of zeros: words 6627e8d5 e169c58d bc57ac4c 9b00dbd8, as shares of 2³²
   * 0.399, 0.881, 0.736, 0.605: at probability 0.7 the second and third are kept. */
  parse_problem("dropout x=1x4@1 seed=[]@0 sample=[]@0 probability=0.7", p);
  const auto outputs = reference.run(p, random_inputs(p, 1, evaluate_with(reference.kernels)));
  CHECK(outputs[0].at(0) == 0);
  CHECK(outputs[0].at(1) == Approx(1 / 0.3));
  CHECK(outputs[0].at(2) == Approx(1 / 0.3));
  CHECK(outputs[0].at(3) == 0);

  /* The same words by other ways to a counter and key of zeros: seed ⊕ stream = 0. */
  Problem turned;
  parse_problem("dropout x=1x4@1 seed=[]@5 sample=[]@0 probability=0.7 stream=5", turned);
  const auto again = reference.run(turned, random_inputs(turned, 1, evaluate_with(reference.kernels)));
  CHECK(again[0].bytes == outputs[0].bytes);
}

TEST_CASE("the second sample of a batch draws what it would draw as the first") {
  Reference reference;
  Problem both, second;
  parse_problem("dropout x=2x3x7@1 sample=[]@9 probability=0.4 stream=2", both);
  parse_problem("dropout x=1x3x7@1 sample=[]@10 probability=0.4 stream=2", second);
  const auto evaluate = evaluate_with(reference.kernels);
  const auto of_both = reference.run(both, random_inputs(both, 1, evaluate));
  const auto of_second = reference.run(second, random_inputs(second, 1, evaluate));
  for (int64_t i = 0; i < 21; ++i) CHECK(of_both[0].at(21 + i) == of_second[0].at(i));
}

TEST_CASE("gelu has the values of the tanh form worked out in another language") {
  Reference reference;
  Problem p;
  parse_problem("gelu x=6", p);
  Tensor x = make_tensor(KM_F32, {6});
  /* Python: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), nine digits. */
  const double values[][2] = {{0, 0},          {1, 0.841191991},     {-1, -0.158808009},
                              {2, 1.95459769}, {-3, -0.00363739208}, {0.5, 0.34571401}};
  for (int i = 0; i < 6; ++i) x.set(i, values[i][0]);
  const auto outputs = reference.run(p, {x});
  for (int i = 0; i < 6; ++i) CHECK(outputs[0].at(i) == Approx(values[i][1]).margin(2e-7));
}

TEST_CASE("attention of two tokens and two heads on one key head is the softmax worked by hand") {
  Reference reference;
  Problem p;
  parse_problem("attention q=1x2x4 k=1x2x2 head_width=2 scale=1.0", p);
  Tensor q = make_tensor(KM_F32, {1, 2, 4}), k = make_tensor(KM_F32, {1, 2, 2}), v = make_tensor(KM_F32, {1, 2, 2});
  const double q_values[] = {1, 0, 0, 1, /* token 1: */ 1, 0, 0, 2}, k_values[] = {1, 0, 0, 1},
               v_values[] = {10, 20, 30, 40};
  for (int i = 0; i < 8; ++i) q.set(i, q_values[i]);
  for (int i = 0; i < 4; ++i) k.set(i, k_values[i]), v.set(i, v_values[i]);
  const auto outputs = reference.run(p, {q, k, v});
  /* Token 0 sees only itself: scores 1 (head 0) and 0 (head 1). */
  CHECK(outputs[0].at(0) == 10);
  CHECK(outputs[0].at(3) == 20);
  CHECK(outputs[1].at(0) == Approx(1));
  CHECK(outputs[1].at(2) == Approx(0).margin(1e-7));
  /* Token 1, head 0: scores 1, 0: weights e/(e+1), 1/(e+1). Head 1: scores 0, 2. */
  const double e = std::exp(1.0), e2 = std::exp(2.0);
  CHECK(outputs[0].at(4) == Approx((10 * e + 30) / (e + 1)));
  CHECK(outputs[0].at(7) == Approx((20 + 40 * e2) / (1 + e2)));
  CHECK(outputs[1].at(1) == Approx(std::log(e + 1)));
  CHECK(outputs[1].at(3) == Approx(std::log(1 + e2)));
}

TEST_CASE("bf16 rounds to nearest, ties to even") {
  CHECK(reference_to_bf16(1.0f) == 0x3f80);
  CHECK(reference_to_bf16(1.00390625f) == 0x3f80);   /* half way between 3f80 and 3f81: the even one */
  CHECK(reference_to_bf16(1.01171875f) == 0x3f82);   /* half way between 3f81 and 3f82 */
  CHECK(reference_to_bf16(1.00390637f) == 0x3f81);   /* just above half */
  CHECK(reference_to_bf16(3.4028235e38f) == 0x7f80); /* above the largest: infinity */
  CHECK((reference_to_bf16(std::nanf("")) & 0x7fff) > 0x7f80);
}

TEST_CASE("a token, a target or a past outside of its table is an error, not a read outside") {
  Reference reference;
  for (const char* line : {"embedding tokens=1x2@17 table=17x3", "embedding tokens=1x2@-1 table=17x3",
                           "cross_entropy logits=2x5 targets=2@5", "cache_append cache=1x4x2 x=1x2x2 past=[]@3",
                           "attention q=1x2x4 k=1x3x4 past=[]@2 head_width=4 mask=cached"}) {
    Problem p;
    parse_problem(line, p);
    const auto inputs = random_inputs(p, 1, evaluate_with(reference.kernels));
    CHECK_THROWS_WITH(reference.run(p, inputs), Catch::Contains("reference: " + p.op_name + ":"));
  }
}

TEST_CASE("shapes that do not fit are refused with a reason") {
  Reference reference;
  for (const char* line : {"matmul a=5x7 b=3x8 transpose_b=1", "matmul a=5x7 b=3x7:bf16 transpose_b=1",
                           "layernorm x=3x5 weight=4", "attention q=1x5x6 head_width=4", "rope x=1x2x9 head_width=3",
                           "dropout x=3 probability=1.0", "matmul_bias a=5x7 b=3x7 transpose_b=1 activation=relu"}) {
    Problem p;
    parse_problem(line, p);
    const auto result = run_problem(reference.kernels, p, [&] {
      std::vector<Tensor> inputs;
      for (const km_tensor& t : p.inputs) inputs.push_back(make_tensor(t.dtype, {t.dims, t.dims + t.rank}));
      return inputs;
    }());
    INFO(line);
    CHECK_FALSE(result.supported);
    CHECK(result.reason.find("reference: " + p.op_name + ": ") == 0);
  }
}

} // namespace
} // namespace kumiki::test
