# The pages of docs/ and of the headers, in build/docs/html: cmake --workflow --preset docs.
find_package(Doxygen REQUIRED)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_custom_target(
  docs ALL
  COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/docs/doxygen/build.py ${PROJECT_BINARY_DIR}
  COMMENT "Pages in ${PROJECT_BINARY_DIR}/html"
  USES_TERMINAL VERBATIM)
