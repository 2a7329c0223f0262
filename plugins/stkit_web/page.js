() => {
  // With Gradio's "hidden", nothing in it could stay in sight (position: sticky), and its rules for CSS reach no further.
  document.querySelector(".gradio-container").style.overflow = "clip";
  // A double click on a slider puts it back to 0.
  document.addEventListener("dblclick", (event) => {
    const slider = event.target.closest('.stkit-knob input[type="range"]');
    if (!slider) return;
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(slider, "0");
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    slider.dispatchEvent(new Event("change", { bubbles: true }));
    slider.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  });
}
