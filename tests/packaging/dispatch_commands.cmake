# Runs the commands of a page in an empty folder, and the program that they make:
#   cmake -D PAGE=<docs/embedding.md> -D SOURCE_DIR=<the library> -D WORK_DIR=<folder> -D COMPILER=<c++> -P <this file>

cmake_minimum_required(VERSION 3.25)

file(READ ${PAGE} page)
if(NOT page MATCHES "\n```sh\n(compile=[^`]*)```")
  message(FATAL_ERROR "${PAGE} has no commands that begin with compile=")
endif()
file(REMOVE_RECURSE ${WORK_DIR})
# Other tests have the optimized units.
string(REPLACE " -O2 " " -O0 " commands "${CMAKE_MATCH_1}")
file(WRITE ${WORK_DIR}/commands.sh "${commands}")
set(ENV{CXX} ${COMPILER})
set(ENV{INTACT} ${SOURCE_DIR})
execute_process(COMMAND sh -e commands.sh WORKING_DIRECTORY ${WORK_DIR} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${WORK_DIR}/engine COMMAND_ERROR_IS_FATAL ANY)
