// The main function of Catch2 2, for targets for which there is no compiled library of it.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
