// The simulation on programs made by hand: what runs beside what, and what is waited for.
#include <catch2/catch.hpp>

#include "core/base/error.h"
#include "core/plan/scale/simulate.h"

namespace kumiki {
namespace {

SimOp compute(double seconds) { return {SimOp::Kind::kCompute, seconds, 0}; }
SimOp start(uint32_t message) { return {SimOp::Kind::kStart, 0, message}; }
SimOp await(uint32_t message) { return {SimOp::Kind::kAwait, 0, message}; }

SimMessage message(SimMessage::Kind kind, double seconds, int32_t peer = -1, int32_t tag = 0) {
  SimMessage m;
  m.kind = kind;
  m.seconds = seconds;
  m.peer = peer;
  m.tag = tag;
  return m;
}

// One entry of the body.
SimProgram program(std::vector<SimOp> ops, std::vector<SimMessage> messages) {
  SimProgram p;
  p.lists.push_back(std::move(ops));
  p.messages = std::move(messages);
  p.parts.push_back({});
  p.sends.resize(1);
  p.entries.push_back({0, 0, {}});
  return p;
}

TEST_CASE("a message runs beside what is computed, and only the rest of it is waited for") {
  const auto run = [](double meanwhile) {
    return simulate({program({start(0), compute(meanwhile), await(0)}, {message(SimMessage::Kind::kLocal, 3)})}, 1,
                    false);
  };
  CHECK(run(5).seconds == 5);
  CHECK(run(5).coordinates[0].exposed[0] == 0);
  CHECK(run(1).seconds == 3);
  CHECK(run(1).coordinates[0].exposed[0] == 2);
  CHECK(run(1).coordinates[0].message[0] == 3);
}

TEST_CASE("messages of one lane go one after another, of two lanes side by side") {
  std::vector<SimMessage> two = {message(SimMessage::Kind::kLocal, 3), message(SimMessage::Kind::kLocal, 2)};
  const std::vector<SimOp> ops = {start(0), start(1), await(1), await(0)};
  CHECK(simulate({program(ops, two)}, 1, false).seconds == 5);
  two[1].lane = 1;
  CHECK(simulate({program(ops, two)}, 1, false).seconds == 3);
}

TEST_CASE("what is computed beside a message goes on with its share of the processor") {
  SimMessage m = message(SimMessage::Kind::kLocal, 2);
  m.overlap = 0.75;
  CHECK(simulate({program({start(0), compute(4), await(0)}, {m})}, 1, false).seconds == 4.5);
}

TEST_CASE("ranks share cores, and what one leaves idle others use") {
  const std::vector<SimProgram> two = {program({compute(4)}, {}), program({compute(1)}, {})};
  CHECK(simulate(two, 1, false).seconds == 4);
  CHECK(simulate(two, 1, false, {2, 1}).seconds == 4);
  const SimResult one_core = simulate(two, 1, false, {1, 1}); // both at half speed until 2, then one alone
  CHECK(one_core.seconds == Approx(5));
  CHECK(one_core.coordinates[1].computed == Approx(2));
  CHECK(one_core.coordinates[1].idle == Approx(3));
  CHECK(simulate(two, 1, false, {2, 4}).seconds == Approx(4 * 2 + 1 * 2)); // eight ranks on two cores
}

TEST_CASE("a transfer begins when both sides have come; who waits for the other is idle") {
  const SimProgram sender = program({compute(4), start(0)}, {message(SimMessage::Kind::kSend, 1, 1)});
  const SimProgram receiver = program({start(0), await(0), compute(2)}, {message(SimMessage::Kind::kReceive, 1, 0)});
  const SimResult result = simulate({sender, receiver}, 1, true);
  CHECK(result.seconds == 7);
  CHECK(result.coordinates[1].idle == 4);
  CHECK(result.coordinates[1].exposed[0] == 1);
  CHECK(result.coordinates[0].idle == 2); // done at 5
  REQUIRE(result.coordinates[1].compute.size() == 1);
  CHECK(result.coordinates[1].compute[0].begin == 5);
}

TEST_CASE("a collective of several coordinates begins with the last of them") {
  SimMessage shared = message(SimMessage::Kind::kShared, 1);
  shared.members = {0, 1, 2};
  std::vector<SimProgram> programs;
  for (const double seconds : {1.0, 5.0, 2.0})
    programs.push_back(program({compute(seconds), start(0), await(0)}, {shared}));
  const SimResult result = simulate(programs, 1, false);
  CHECK(result.seconds == 6);
  CHECK(result.coordinates[0].idle == 4);
  CHECK(result.coordinates[1].idle == 0);
}

TEST_CASE("coordinates that wait for each other for ever are an error that names one") {
  const SimProgram a = program({start(0), await(0), start(1)}, {message(SimMessage::Kind::kReceive, 1, 1, 1),
                                                                message(SimMessage::Kind::kSend, 1, 1, 2)});
  const SimProgram b = program({start(0), await(0), start(1)}, {message(SimMessage::Kind::kReceive, 1, 0, 2),
                                                                message(SimMessage::Kind::kSend, 1, 0, 1)});
  CHECK_THROWS_AS(simulate({a, b}, 1, false), Error);
}

TEST_CASE("computed, idle and exposed time add up to the step on every coordinate") {
  const SimProgram sender = program({compute(1), start(0), start(1), compute(2), await(1)},
                                    {message(SimMessage::Kind::kSend, 1, 1), message(SimMessage::Kind::kLocal, 4)});
  const SimProgram receiver =
      program({start(0), compute(0.5), await(0), compute(1)}, {message(SimMessage::Kind::kReceive, 1, 0)});
  const SimResult result = simulate({sender, receiver}, 1, false);
  for (const SimTimes& times : result.coordinates)
    CHECK(times.computed + times.idle + times.exposed[0] == Approx(result.seconds));
}

} // namespace
} // namespace kumiki
